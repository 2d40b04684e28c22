# SPDX-License-Identifier: Apache-2.0
"""A sensor that starts in the triggerer: what the scheduler stores, and what the trigger does."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSensorTimeout

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from airflow_provider_losant.triggers import sensor as trigger_module
from airflow_provider_losant.triggers import start_args
from airflow_provider_losant.triggers.sensor import LosantNotebookSensorTrigger
from tests.provider.tasks import Task, Ti, context_of, fire

pytestmark = pytest.mark.usefixtures("losant_connection")
where_it_can = pytest.mark.airflow(since="3.3")  # from then on the triggerer renders templates

QUICK: dict[str, Any] = {"poke_interval": 0.02, "timeout": 20.0, "deferrable": True}
DAY = datetime(2026, 1, 1, tzinfo=UTC)


def sensor(notebook: str, **options: Any) -> LosantNotebookExecutionSensor:
    given = {"task_id": "await", "notebook_id": notebook, "start_from_trigger": True, **QUICK}
    return LosantNotebookExecutionSensor(**{**given, **options})


@pytest.fixture
def execution(notebook: str) -> str:
    return LosantHook().execute_notebook(notebook)


@pytest.fixture
def dag() -> Any:
    return DAG("energy", schedule=None, start_date=DAY, user_defined_macros={"known": "0" * 24})


# -- the arguments in the DAG -----------------------------------------------------------------------------


@where_it_can
def test_the_scheduler_stores_flat_json_that_the_trigger_accepts(notebook: str) -> None:
    arguments = sensor(notebook, since=DAY, timeout=timedelta(minutes=5)).start_trigger_args

    assert arguments is not None
    assert arguments.trigger_kwargs is not None
    assert arguments.trigger_cls == start_args.TRIGGER
    assert json.loads(json.dumps(arguments.trigger_kwargs)) == arguments.trigger_kwargs
    assert arguments.trigger_kwargs["since"] == "2026-01-01T00:00:00+00:00"
    assert (
        arguments.timeout
        == timedelta(seconds=arguments.trigger_kwargs["deferral_timeout"])
        > timedelta(minutes=7)
    )
    assert LosantNotebookSensorTrigger(**arguments.trigger_kwargs).serialize() == (
        arguments.trigger_cls,
        arguments.trigger_kwargs,
    )


def test_a_sensor_starts_in_a_worker_by_default(notebook: str) -> None:
    for options in ({"start_from_trigger": False}, {"deferrable": False}):
        one = sensor(notebook, execution_id="0" * 24, **options)

        assert (one.start_from_trigger, one.start_trigger_args) == (False, None)


@pytest.mark.airflow(before="3.3")
def test_a_sensor_with_templates_that_would_not_be_rendered_starts_in_a_worker(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, Script(ending="hang"))
    execution = LosantHook().execute_notebook(notebook)
    one = Task(lambda: sensor(notebook, execution_id=execution, timeout=0.1))

    with pytest.raises(AirflowSensorTimeout):
        one.run()

    assert (one.make().start_from_trigger, one.make().start_trigger_args) == (False, None)
    assert len(one.deferrals) == 1


@where_it_can
def test_a_sensor_with_an_unserializable_argument_starts_in_a_worker(dag: Any, notebook: str) -> None:
    with dag:
        first = LosantNotebookExecuteOperator(task_id="first", notebook_id=notebook)
        one = sensor(notebook, execution_id=first.output.map(lambda it: it["execution_id"]))

    assert (one.start_from_trigger, one.start_trigger_args) == (False, None)


@where_it_can
def test_mapped_sensors_start_in_workers(dag: Any, notebook: str) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    with dag:
        LosantNotebookExecutionSensor.partial(
            task_id="await", notebook_id=notebook, start_from_trigger=True, **QUICK
        ).expand(execution_id=["0" * 24, "1" * 24])

    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag)).get_task("await")
    assert stored.start_trigger_args is None


# -- in the triggerer -------------------------------------------------------------------------------------


class Supervisor:
    """
    Responds to a triggerer's process as its supervisor does.

    :param xcoms: The XComs of tasks that are not mapped, by task and key.
    """

    def __init__(self, xcoms: dict[tuple[str, str], Any]) -> None:
        self.xcoms = xcoms
        self.pushed: dict[str, Any] = {}

    def send(self, msg: Any) -> Any:
        import greenback

        return greenback.await_(self.asend(msg))

    async def asend(self, msg: Any) -> Any:
        from airflow.sdk.execution_time import comms

        match msg:
            case comms.GetXCom(map_index=None | -1):
                return comms.XComResult(key=msg.key, value=self.xcoms.get((msg.task_id, msg.key)))
            case comms.SetXCom():
                self.pushed[msg.key] = msg.value
            case comms.GetXComSequenceSlice() | comms.GetPrevSuccessfulDagRun():
                await asyncio.Event().wait()  # Airflow 3.3.2 leaves it at a line in its own log
        return None


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    from airflow.sdk.execution_time import task_runner

    made = Supervisor({})
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made


@dataclass
class Triggerer:
    """
    Airflow's own code that runs triggers.

    :param dag: The DAG whose sensor starts here.
    :param supervisor: Responds to the requests of the trigger.
    """

    dag: Any
    supervisor: Supervisor

    def begin(self, since_start: float = 0.0) -> Any:
        """
        Begin the DAG's sensor and return its event.

        :param since_start: Seconds since the scheduler stored it.
        """
        (event,) = asyncio.run(self._events(workload_of(self.dag, since_start)))
        return event

    @staticmethod
    async def _events(workload: Any) -> list[Any]:
        from airflow.jobs.triggerer_job_runner import TriggerRunner

        runner = TriggerRunner()  # type: ignore[no-untyped-call]  # Airflow's
        runner.to_create.append(workload)
        await runner.create_triggers()  # type: ignore[no-untyped-call]  # as above
        (trigger,) = runner.triggers.values()
        await trigger["task"]
        return [it.event.payload for it in runner.events]


@pytest.fixture
def triggerer(dag: Any, monkeypatch: pytest.MonkeyPatch) -> Triggerer:
    from airflow.sdk.execution_time import task_runner

    made = Triggerer(dag, Supervisor({}))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made.supervisor, raising=False)
    return made


def workload_of(dag: Any, since_start: float) -> Any:
    """Store the sensor's trigger and load it again, as scheduler and triggerer do."""
    from uuid import uuid4

    from airflow.executors.workloads.task import TaskInstanceDTO
    from airflow.executors.workloads.trigger import RunTrigger
    from airflow.models.trigger import Trigger
    from airflow.serialization.serialized_objects import DagSerialization

    stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    found = DagSerialization.from_dict(stored).get_task("await")
    arguments = found.start_trigger_args
    assert arguments is not None
    assert arguments.trigger_kwargs is not None
    assert arguments.timeout is not None
    ti = {"task_id": "await", "dag_id": dag.dag_id, "run_id": "manual", "try_number": 1, "map_index": -1}
    more = {"pool_slots": 1, "priority_weight": 1, "queue": "default"}
    ids = {"id": uuid4(), "dag_version_id": uuid4()}
    run = {"dag_id": dag.dag_id, "run_id": "manual", "run_type": "manual", "state": "running", "conf": {}}
    days = dict.fromkeys(
        ("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date"), DAY
    )
    allowed = min(arguments.timeout, found.execution_timeout or arguments.timeout)
    return RunTrigger(
        id=1,
        classpath=arguments.trigger_cls,
        encrypted_kwargs=Trigger(arguments.trigger_cls, arguments.trigger_kwargs).encrypted_kwargs,
        ti=TaskInstanceDTO.model_validate({**ti, **more, **ids}),
        timeout_after=datetime.now(UTC) + allowed - timedelta(seconds=since_start),
        dag_data=stored,
        dag_run_data=run | days | {"consumed_asset_events": [], "end_date": None, "partition_key": None},
    )


@where_it_can
@pytest.mark.parametrize("since", ["{{ data_interval_end }}", "{{ ds }}", DAY, "2026-01-01"], ids=str)
def test_the_trigger_waits_for_the_first_execution_to_end_since_a_timestamp(
    notebook: str, execution: str, triggerer: Triggerer, since: Any
) -> None:
    with triggerer.dag:
        sensor(notebook, since=since)

    event = triggerer.begin()

    assert (event["ending"], event["result"]["execution_id"]) == ("ended", execution)
    assert triggerer.supervisor.pushed == {
        "losant_notebook_link": LosantHook().notebook_url(LosantHook().execution_ref(notebook, execution))
    }


@where_it_can
@pytest.mark.parametrize("spelling", ["output", "{{ ti.xcom_pull(task_ids='first', key='execution_id') }}"])
def test_the_trigger_waits_for_the_execution_of_an_upstream_task(
    notebook: str, execution: str, triggerer: Triggerer, spelling: str
) -> None:
    triggerer.supervisor.xcoms["first", "execution_id"] = execution
    with triggerer.dag:
        first = LosantNotebookExecuteOperator(task_id="first", notebook_id=notebook)
        output = first.output["execution_id"]  # type: ignore[index]  # an output can be indexed
        one = sensor(notebook, execution_id=output if spelling == "output" else spelling)

    assert triggerer.begin()["result"]["execution_id"] == execution
    assert one.upstream_task_ids == ({"first"} if spelling == "output" else set())


@where_it_can
@pytest.mark.parametrize(
    "context",
    [
        {"site": "{{ dag.dag_id }}", "nested": {"days": ["{{ ds }}"]}},
        '{"site": "{{ dag.dag_id }}", "nested": {"days": ["{{ ds }}"]}}',
        {"site": "{{ ti.xcom_pull(task_ids='first') }}"},
        {"site": "{{ ti.dag_id }}"},
    ],
    ids=["mapping", "text", "XCom", "task instance"],
)
def test_the_trigger_chooses_by_status_and_template_context(
    losant: Emulator, notebook: str, triggerer: Triggerer, context: Any
) -> None:
    wanted = {"site": "energy", "nested": {"days": ["2026-01-01"], "more": 1}}
    losant.script(notebook, Script(notebook=0.01, ending="errored"))
    LosantHook().execute_notebook(notebook, template_context=wanted)
    losant.script(notebook, Script(notebook=0.01))
    LosantHook().execute_notebook(notebook, template_context=wanted | {"site": "south"})
    expected = LosantHook().execute_notebook(notebook, template_context=wanted)
    triggerer.supervisor.xcoms["first", "return_value"] = "energy"
    with triggerer.dag:
        sensor(notebook, since=DAY, context_contains=context, statuses=("completed",))

    assert triggerer.begin()["result"]["execution_id"] == expected


@where_it_can
def test_an_xcom_in_a_wanted_context_is_rendered(notebook: str, triggerer: Triggerer) -> None:
    expected = LosantHook().execute_notebook(notebook, template_context={"site": "north"})
    triggerer.supervisor.xcoms["first", "execution_id"] = "north"
    with triggerer.dag:
        first = LosantNotebookExecuteOperator(task_id="first", notebook_id=notebook)
        output = first.output["execution_id"]  # type: ignore[index]  # an output can be indexed
        one = sensor(notebook, since=DAY, context_contains={"site": output})

    assert triggerer.begin()["result"]["execution_id"] == expected
    assert one.upstream_task_ids == {"first"}


@where_it_can
@pytest.mark.parametrize("of_task", [False, True], ids=["DAG", "task"])
def test_a_wanted_context_with_native_objects_is_rendered_in_a_worker(
    notebook: str, triggerer: Triggerer, of_task: bool
) -> None:
    triggerer.dag.render_template_as_native_obj = not of_task
    own = {"render_template_as_native_obj": True} if of_task else {}
    with triggerer.dag:
        sensor(notebook, since="{{ ds_nodash }}", context_contains={"day": "{{ ds_nodash }}"}, **own)

    assert triggerer.begin() is None


@where_it_can
def test_text_is_rendered_in_the_triggerer_also_in_a_dag_with_native_objects(
    notebook: str, execution: str, triggerer: Triggerer
) -> None:
    triggerer.dag.render_template_as_native_obj = True
    with triggerer.dag:
        sensor(notebook, since="{{ ds_nodash }}", execution_id="{{ none }}", context_contains={})

    assert triggerer.begin()["result"]["execution_id"] == execution


@where_it_can
def test_an_execution_that_does_not_exist_ends_the_wait_in_the_triggerer(
    notebook: str, triggerer: Triggerer
) -> None:
    with triggerer.dag:
        one = sensor(notebook, execution_id="0" * 24, timeout=3_600)

    event = triggerer.begin()

    assert event["ending"] == "not_found"
    with pytest.raises(AirflowFailException, match="The execution does not exist"):
        one.execute_complete(context_of(Ti()), event)


@where_it_can
def test_a_restart_of_the_triggerer_does_not_extend_the_wait(
    losant: Emulator, notebook: str, triggerer: Triggerer
) -> None:
    losant.script(notebook, Script(ending="hang"))
    with triggerer.dag:
        one = sensor(notebook, execution_id=LosantHook().execute_notebook(notebook))
    began = time.time()

    event = triggerer.begin(since_start=19.9)

    assert event["ending"] == "deadline"
    assert time.time() - began < 5
    with pytest.raises(AirflowSensorTimeout):
        one.execute_complete(context_of(Ti()), event)


@pytest.mark.parametrize("is_ended", [True, False])
def test_without_the_time_of_its_start_the_trigger_waits_for_the_timeout(
    losant: Emulator, notebook: str, *, is_ended: bool
) -> None:
    losant.script(notebook, Script(notebook=0.05) if is_ended else Script(ending="hang"))
    trigger = LosantNotebookSensorTrigger(
        losant_conn_id="losant_default",
        application_id=None,
        notebook_id=None,
        notebook_name="Report",
        execution_id=LosantHook().execute_notebook(notebook),
        since=None,
        poll_interval=0.02,
        timeout=20.0 if is_ended else 0.1,
        deferral_timeout=60.0,
    )

    assert fire(trigger)["ending"] == ("ended" if is_ended else "deadline")


@where_it_can
def test_an_execution_timeout_does_not_move_the_deadline(
    losant: Emulator, notebook: str, triggerer: Triggerer
) -> None:
    losant.script(notebook, Script(notebook=0.2))
    with triggerer.dag:
        sensor(
            notebook,
            execution_id=LosantHook().execute_notebook(notebook),
            execution_timeout=timedelta(seconds=30),
        )

    assert triggerer.begin(since_start=15)["ending"] == "ended"


@where_it_can
def test_the_trigger_finds_the_notebook_by_its_name_and_the_worker_needs_no_request_for_it(
    losant: Emulator, notebook: str, execution: str, triggerer: Triggerer
) -> None:
    with triggerer.dag:
        one = sensor(notebook, notebook_id=None, notebook_name="{{ 'Rep' + 'ort' }}", execution_id=execution)

    event = triggerer.begin()

    assert event["result"]["execution_id"] == execution
    assert triggerer.supervisor.pushed["notebook_id"] == notebook
    losant.clear_requests()
    ti = Ti(pushed={"notebook_id": notebook})
    assert one.execute_complete(context_of(ti), event)["notebook_id"] == notebook
    assert "notebooks.get" not in [it.operation for it in losant.requests]


@where_it_can
@pytest.mark.parametrize("name", ["Weather", "{{ '' }}"])
def test_a_name_that_the_trigger_cannot_find_is_reported_by_the_worker(
    notebook: str, execution: str, triggerer: Triggerer, name: str
) -> None:
    with triggerer.dag:
        one = sensor(notebook, notebook_id=None, notebook_name=name, execution_id=execution)

    assert triggerer.begin() is None
    one.notebook_name = "" if "{" in name else name  # as a worker renders it
    with pytest.raises(LosantConfigError, match=r"no notebook named 'Weather'|is missing, and so is"):
        one.execute_complete(context_of(Ti()), None)


# -- waits that only a worker can start -------------------------------------------------------------------


@where_it_can
@pytest.mark.parametrize(
    "options",
    [
        {"execution_id": "{{ known }}"},
        {"execution_id": "{{ ti.xcom_pull(task_ids='mapped') }}"},
        {"since": "{{ prev_start_date_success }}"},
        {"since": "{{ (triggering_asset_events.values() | first | first).timestamp }}"},
        {"since": "{{ 'yesterday' }}"},
        {"since": "2026-01-01", "context_contains": {"site": "{{ nowhere }}"}},
        {"since": "2026-01-01", "context_contains": "{site: {{ ds }}}"},
        {"since": "{{ ds }}", "execution_id": "{{ '0' * 24 }}"},
        {"execution_id": "0" * 24, "losant_conn_id": "{{ nowhere }}"},
        {"execution_id": "0" * 24, "application_id": "{{ nowhere }}"},
    ],
    ids=str,
)
def test_a_wait_that_cannot_start_in_the_triggerer_is_left_to_a_worker(
    losant: Emulator,
    notebook: str,
    triggerer: Triggerer,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    monkeypatch.setattr(trigger_module, "START_TIMEOUT", 0.3)
    with triggerer.dag:
        sensor(notebook, **options)

    assert triggerer.begin() is None
    assert losant.requests == []


def test_the_worker_then_starts_the_wait(notebook: str, execution: str) -> None:
    time.sleep(0.05)

    result = sensor(notebook, execution_id=execution).execute_complete(context_of(Ti()), None)

    assert result["execution_id"] == execution


def test_invalid_arguments_are_reported_by_the_worker(notebook: str) -> None:
    with pytest.raises(LosantConfigError, match=r"since: '\{\{ day \}\}' is not a timestamp"):
        sensor(notebook, since="{{ day }}").execute_complete(context_of(Ti()), None)
