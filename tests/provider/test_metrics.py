# SPDX-License-Identifier: Apache-2.0
"""The metrics that workers and triggers send through Airflow's ``Stats``; see also the journeys."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_losant import metrics
from airflow_provider_losant._compat import AirflowException
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.exceptions import NotebookExecutionError, NotebookOutputError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.airflow_stub import supervise
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of, fire_together, trigger
from tests.support.factories import BRIEF

if TYPE_CHECKING:
    from tests.provider.conftest import TaskLog

pytestmark = pytest.mark.usefixtures("losant_connection")

STATS = ("airflow.sdk.observability.stats", "airflow.observability.stats", "airflow.stats")
"""Where Airflow has its ``Stats``: for tasks and for everything else, and before Airflow 3.2 for both."""
KNOWN_TAGS = {
    "losant.execution.ended": {"status"},
    "losant.execution.phase": {"phase"},
    "losant.execution.minutes": set(),
    "losant.request": {"operation", "outcome"},
    "losant.waits": {"hostname"},
    "losant.reconnected": set(),
    "losant.swept": {"outcome"},
}
Sent = tuple[str, str, Any, Mapping[str, str]]


@dataclass
class Recorder:
    """Replaces Airflow's backend: keeps what it gets, or raises."""

    sent: list[Sent] = field(default_factory=list)
    problem: Exception | None = None

    def taking(self, kind: str) -> Callable[..., None]:
        def take(name: str, value: Any = 1, *, tags: Mapping[str, str] | None = None) -> None:
            self.sent.append((kind, name, value, tags or {}))
            if self.problem is not None:
                raise self.problem

        return take

    def of(self, name: str) -> list[Sent]:
        return [it for it in self.sent if it[1] == f"losant.{name}"]

    def counted(self, name: str, *tags: str) -> Counter[tuple[str, ...]]:
        """Return the sums of a counter by the values of its tags."""
        sums: Counter[tuple[str, ...]] = Counter()
        for kind, _, value, has in self.of(name):
            assert kind == "incr"
            sums[tuple(has[it] for it in tags)] += value
        return sums

    @property
    def ended(self) -> dict[str, int]:
        """The number of executions by status."""
        return {status: count for (status,), count in self.counted("execution.ended", "status").items()}


@pytest.fixture(autouse=True)
def own_metrics() -> Iterator[None]:
    """Let every test configure its metrics anew, as a process does."""
    for forget in (metrics.in_worker, metrics.in_triggerer):
        forget.cache_clear()
    yield
    for forget in (metrics.in_worker, metrics.in_triggerer):
        forget.cache_clear()


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Replace the methods of Airflow's ``Stats``."""
    recorder = Recorder()
    for name in STATS:
        try:
            stats = import_module(name).Stats
        except ImportError:  # of another Airflow
            continue
        for kind in ("incr", "gauge", "timing"):
            monkeypatch.setattr(stats, kind, staticmethod(recorder.taking(kind)), raising=False)
        if name == "airflow.observability.stats":
            break  # the last one is a deprecated name of the first
    return recorder


@pytest.fixture
def sent(backend: Recorder, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Configure StatsD with tags."""
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", "True")
    return backend


def task(notebook: str, *, ti: Ti | None = None, **options: Any) -> Task:
    given: dict[str, Any] = {
        "task_id": "report",
        "notebook_id": notebook,
        "poll_interval": 0.02,
        "timeout": 30,
    }
    return Task(lambda: LosantNotebookExecuteOperator(**given | options), ti=ti or Ti())


# -- executions -------------------------------------------------------------------------------------------


@BOTH_MODES
def test_an_execution_is_counted_once_with_its_phases_and_run_minutes(
    losant: Emulator, notebook: str, sent: Recorder, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(queue=0.1, notebook=0.3, files=BRIEF.files))

    result = task(notebook, deferrable=deferrable).run()

    assert sent.ended == {"completed": 1}
    phases = {tags["phase"]: value for _, _, value, tags in sent.of("execution.phase")}
    assert phases == {
        name: timedelta(seconds=took) for name, took in result["durations"].items() if name != "total"
    }
    assert set(phases) == {"queue", "inputs", "notebook", "outputs"}
    minutes = result["durations"]["notebook"] / 60
    assert sent.counted("execution.minutes")[()] == pytest.approx(minutes, abs=1e-4)
    assert len(sent.of("execution.phase")) == 4
    assert {kind for kind, *_ in sent.of("execution.phase")} == {"timing"}
    assert sent.of("reconnected") == []


@pytest.mark.parametrize("ending", ["errored", "timeout"])
@BOTH_MODES
def test_an_execution_that_fails_is_counted_with_its_status(
    losant: Emulator, notebook: str, sent: Recorder, *, deferrable: bool, ending: Any
) -> None:
    losant.script(notebook, Script(notebook=0.02, ending=ending))

    with pytest.raises(AirflowException):
        task(notebook, deferrable=deferrable).run()

    assert sent.ended == {ending: 1}


@BOTH_MODES
def test_a_try_that_cannot_save_the_outputs_leaves_the_counting_to_the_retry(
    notebook: str, sent: Recorder, tmp_path: Path, *, deferrable: bool
) -> None:
    no_folder = tmp_path / "file"
    no_folder.touch()
    ti = Ti(max_tries=1)
    with pytest.raises(NotebookOutputError):
        task(notebook, ti=ti, deferrable=deferrable, save_outputs_to=str(no_folder)).run()
    assert sent.ended == {}
    ti.try_number += 1

    task(notebook, ti=ti, deferrable=deferrable, save_outputs_to=str(tmp_path)).run()

    assert sent.ended == {"completed": 1}
    assert sent.counted("reconnected") == {(): 1}


@BOTH_MODES
def test_a_last_try_that_cannot_save_the_outputs_counts_the_execution(
    notebook: str, sent: Recorder, tmp_path: Path, *, deferrable: bool
) -> None:
    no_folder = tmp_path / "file"
    no_folder.touch()
    with pytest.raises(NotebookOutputError):
        task(notebook, deferrable=deferrable, save_outputs_to=str(no_folder)).run()

    assert sent.ended == {"completed": 1}
    assert len(sent.of("execution.minutes")) == 1


@BOTH_MODES
def test_an_execution_that_has_not_ended_is_not_counted(
    losant: Emulator, notebook: str, sent: Recorder, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(ending="hang"))

    with pytest.raises(AirflowException):
        task(notebook, deferrable=deferrable, timeout=0.2).run()
    assert sent.ended == {}

    task(notebook, deferrable=deferrable, wait_for_completion=False).run()
    assert sent.ended == {}


@BOTH_MODES
def test_an_adopted_execution_is_left_to_the_task_that_has_submitted_it(
    losant: Emulator, notebook: str, sent: Recorder, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=4.0, files=BRIEF.files))
    LosantHook().execute_notebook(notebook)

    assert task(notebook, deferrable=deferrable, if_running="adopt").run()["status"] == "completed"

    assert sent.ended == {}
    assert sent.of("reconnected") == []


@BOTH_MODES
def test_a_lost_response_counts_as_reconnected_and_the_execution_once(
    losant: Emulator, notebook: str, sent: Recorder, *, deferrable: bool
) -> None:
    losant.inject("notebook.execute", Fault("reset_after", processed=True))

    task(notebook, deferrable=deferrable).run()

    assert len(losant.executions(notebook)) == 1
    assert sent.counted("reconnected") == {(): 1}
    assert sent.ended == {"completed": 1}
    assert sent.counted("request", "operation", "outcome")["notebook.execute", "transport"] == 1


@pytest.mark.parametrize("options", [{}, {"deferrable": True}], ids=["poke", "deferred"])
@pytest.mark.parametrize("ending", ["completed", "errored"])
def test_a_sensor_counts_the_execution_that_it_waits_for(
    losant: Emulator, notebook: str, sent: Recorder, options: dict[str, Any], ending: Any
) -> None:
    losant.script(notebook, Script(notebook=0.1, ending=ending))
    execution = LosantHook().execute_notebook(notebook)
    waiting = Task(
        lambda: LosantNotebookExecutionSensor(
            task_id="await",
            notebook_id=notebook,
            execution_id=execution,
            poke_interval=0.02,
            timeout=20,
            **options,
        )
    )

    if ending == "completed":
        waiting.run()
    else:
        with pytest.raises(AirflowFailException):
            waiting.run()

    assert sent.ended == {ending: 1}


@pytest.mark.parametrize("options", [{}, {"deferrable": True}], ids=["poke", "deferred"])
def test_a_sensor_counts_an_execution_whose_values_cannot_be_used(
    losant: Emulator, notebook: str, sent: Recorder, options: dict[str, Any]
) -> None:
    losant.script(notebook, Script(notebook=0.1, files={"values.json": b"no JSON"}))
    execution = LosantHook().execute_notebook(notebook)
    waiting = Task(
        lambda: LosantNotebookExecutionSensor(
            task_id="await",
            notebook_id=notebook,
            execution_id=execution,
            values_from="values.json",
            poke_interval=0.02,
            timeout=20,
            **options,
        )
    )

    with pytest.raises(AirflowFailException, match=r"^values_from: "):
        waiting.run()

    assert sent.ended == {"completed": 1}


# -- requests, waits, the sweep ---------------------------------------------------------------------------

OUTCOMES: dict[str, tuple[Fault, str]] = {
    "401": (Fault("unauthorized"), "401"),
    "429": (Fault("rate_limited", retry_after=0), "429"),
    "503": (Fault("server_error"), "5xx"),
    "a reset": (Fault("reset_before"), "transport"),
    "a web page": (Fault("html", status=200), "unreadable"),
    "half a response": (Fault("truncated"), "unreadable"),
}


@pytest.mark.parametrize("case", OUTCOMES)
@BOTH_MODES
def test_every_request_is_counted_with_its_outcome(
    losant: Emulator, notebook: str, sent: Recorder, *, deferrable: bool, case: str
) -> None:
    fault, outcome = OUTCOMES[case]
    losant.script(notebook, Script(notebook=0.2, files=BRIEF.files))
    losant.inject("notebook.logs", fault)

    task(notebook, deferrable=deferrable).run()

    requests = sent.counted("request", "operation", "outcome")
    assert requests["notebook.logs", outcome] == 1
    assert requests["notebook.execute", "ok"] == 1
    assert requests["notebook.logs", "ok"] >= 1
    assert requests.total() == len(losant.requests)


def test_a_request_that_is_not_sent_is_not_counted(sent: Recorder) -> None:
    with pytest.raises(AirflowException):
        LosantHook().get_notebook("no id")

    assert sent.sent == []


def test_the_gauge_has_all_waits_of_the_triggerer_and_ends_at_zero(
    losant: Emulator, notebook: str, sent: Recorder
) -> None:
    notebooks = [notebook, losant.add_notebook("Other")]
    for it in notebooks:
        losant.script(it, Script(notebook=0.5))
    waits = [
        trigger(losant, it, LosantHook().execute_notebook(it))
        for it, _ in itertools.product(notebooks, range(30))
    ]

    fire_together(waits)

    values = [value for _, _, value, _ in sent.of("waits")]
    assert max(values) == 60
    assert values[-1] == 0
    assert {kind for kind, *_ in sent.of("waits")} == {"gauge"}
    assert len({tags["hostname"] for *_, tags in sent.of("waits")}) == 1


def test_a_sweep_counts_what_becomes_of_each_execution(
    sent: Recorder, losant: Emulator, running: str
) -> None:
    LosantNotebookOrphanSweepOperator(task_id="sweep", min_age=1e-6).execute({})

    assert sent.counted("swept", "outcome") == {("left",): 1}


@pytest.mark.airflow(since="3.2")
@pytest.mark.parametrize("fault", [None, Fault("unauthorized")], ids=["cancelled", "failed"])
def test_a_sweep_counts_what_it_cancels_and_what_it_cannot(
    sent: Recorder,
    losant: Emulator,
    notebook: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    fault: Fault | None,
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    losant.script(notebook, Script(ending="hang"))
    ti = Ti()
    with pytest.raises(TaskDeferred):
        LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, deferrable=True).execute(
            context_of(ti)
        )
    supervise(monkeypatch, ti)
    if fault is not None:
        losant.inject("notebook.cancelExecution", fault, times=20)

    with suppress(NotebookExecutionError):
        LosantNotebookOrphanSweepOperator(task_id="sweep", min_age=1e-6).execute({})

    assert sent.counted("swept", "outcome") == {("failed" if fault else "cancelled",): 1}


@BOTH_MODES
def test_only_known_metrics_with_few_values_are_sent(
    sent: Recorder, losant: Emulator, notebook: str, running: str, *, deferrable: bool
) -> None:
    losant.script(notebook, BRIEF)
    task(notebook, deferrable=deferrable).run()
    LosantNotebookOrphanSweepOperator(task_id="sweep", min_age=1e-6).execute({})

    assert {name: set(tags) for _, name, _, tags in sent.sent}.items() <= KNOWN_TAGS.items()
    secrets = (losant.token, losant.url, notebook, running, losant.application_id, "report", "energy")
    assert not [it for it in secrets if it in repr(sent.sent)]


# -- the backend ------------------------------------------------------------------------------------------


@BOTH_MODES
def test_a_backend_that_fails_fails_nothing_and_is_logged_once(
    losant: Emulator, notebook: str, sent: Recorder, task_log: TaskLog, *, deferrable: bool
) -> None:
    sent.problem = OSError("no route to statsd.example with password hunter2")

    assert task(notebook, deferrable=deferrable).run()["status"] == "completed"
    LosantNotebookOrphanSweepOperator(task_id="sweep").execute({})

    assert len(sent.sent) > 5
    log = task_log()
    assert log.count("Metrics could not be sent (OSError)") == 1 + deferrable
    assert "hunter2" not in log


def test_an_invalid_configuration_fails_nothing(notebook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "perhaps")

    assert task(notebook).run()["status"] == "completed"


@BOTH_MODES
def test_without_a_backend_nothing_is_sent_and_requests_are_not_observed(
    notebook: str, backend: Recorder, *, deferrable: bool
) -> None:
    task(notebook, deferrable=deferrable).run()

    assert backend.sent == []
    assert metrics.in_worker().on_request is None
    assert metrics.in_triggerer().on_request is None


@pytest.mark.parametrize(
    ("settings", "name", "has_tags"),
    [
        ({"STATSD_ON": "True"}, "losant.request.notebook__get.ok", False),
        ({"STATSD_ON": "True", "STATSD_INFLUXDB_ENABLED": "True"}, "losant.request", True),
        ({"STATSD_ON": "True", "STATSD_DATADOG_ENABLED": "True"}, "losant.request", True),
        ({"STATSD_DATADOG_ENABLED": "True"}, "losant.request", True),
        ({"OTEL_ON": "True"}, "losant.request", True),
    ],
    ids=["StatsD", "InfluxDB", "Datadog", "Datadog alone", "OpenTelemetry"],
)
def test_without_tags_their_values_are_part_of_the_name(
    notebook: str,
    backend: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    *,
    settings: dict[str, str],
    name: str,
    has_tags: bool,
) -> None:
    for option, value in settings.items():
        monkeypatch.setenv(f"AIRFLOW__METRICS__{option}", value)

    LosantHook().get_notebook(notebook)

    [(kind, sent_as, value, tags)] = backend.sent
    assert (kind, sent_as, value) == ("incr", name, 1)
    assert tags == {"operation": "notebook.get", "outcome": "ok"}
    assert has_tags == (sent_as == "losant.request")


def test_the_backend_of_the_triggerer_is_made_outside_of_its_event_loop(sent: Recorder) -> None:
    threads: list[bool] = []
    sent.sent = _Noting(threads)

    async def main() -> None:
        await asyncio.gather(*(LosantHook().aload_settings() for _ in range(50)))

    asyncio.run(main())

    assert threads == [False]


class _Noting(list[Sent]):
    """Notes for each metric whether it is sent by an event loop."""

    def __init__(self, threads: list[bool]) -> None:
        super().__init__()
        self._threads = threads

    def append(self, sent: Sent) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._threads.append(False)
        else:
            self._threads.append(True)
