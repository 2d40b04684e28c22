# SPDX-License-Identifier: Apache-2.0
"""Values of a notebook in the result of its task: read by the worker, in every mode, and read again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import Asset, TaskDeferred

from airflow_provider_losant._compat import AIRFLOW_3
from airflow_provider_losant.api.errors import OutputError
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.exceptions import LosantConfigError, NotebookOutputError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.conftest import cancels, operations, refuse_first_signature
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of, fire, outlet_events
from tests.support.factories import entry
from tests.support.http_stub import HttpStub, http

if TYPE_CHECKING:
    from tests.provider.conftest import TaskLog

pytestmark = pytest.mark.usefixtures("losant_connection")

VALUES = {"limit": 42.5, "sites": ["Köln", "{{ ds }}"], "password": "SECRET-1"}
CONFIGURATION = '{"outputType": "temporaryUrl", "fileName": "values.json"}'


def script(content: bytes | None, **more: Any) -> Script:
    files = {"result.html": b"<p>42</p>"} | ({} if content is None else {"values.json": content})
    return Script(notebook=0.02, files=files, **more)


@pytest.fixture
def notebook(losant: Emulator) -> str:
    """Return the id of a notebook that hands on its values."""
    made = losant.add_notebook("Report")
    losant.script(made, script(json.dumps(VALUES).encode()))
    return made


def run_task(notebook: str, ti: Ti | None = None, **options: Any) -> Task:
    given = {"poll_interval": 0.02, "max_log_lag": 0.1, "values_from": "values.json", **options}
    return Task(
        lambda: LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **given), ti or Ti()
    )


def sensor(notebook: str, execution_id: str, **options: Any) -> Task:
    given = {"poke_interval": 0.02, "timeout": 20.0, "values_from": "values.json", **options}
    return Task(
        lambda: LosantNotebookExecutionSensor(
            task_id="await", notebook_id=notebook, execution_id=execution_id, **given
        )
    )


# -- the values -------------------------------------------------------------------------------------------


@BOTH_MODES
@pytest.mark.parametrize("values", [VALUES, {}, [], [{"site": "north"}]], ids=range(4))
def test_the_values_are_in_the_result_and_in_an_xcom_of_their_own(
    losant: Emulator, notebook: str, values: Any, *, deferrable: bool
) -> None:
    losant.script(notebook, script(json.dumps(values).encode()))
    one = run_task(notebook, deferrable=deferrable)

    result = one.run()

    assert result["values"] == one.ti.pushed["values"] == values
    assert set(result["outputs"]) == {"result.html", "values.json"}
    assert len(one.deferrals) == deferrable
    assert len(losant.executions(notebook)) == 1


@BOTH_MODES
@pytest.mark.parametrize("values_from", [None, ""], ids=["none", "empty"])
def test_without_values_from_nothing_is_read(
    losant: Emulator, notebook: str, values_from: Any, *, deferrable: bool
) -> None:
    one = run_task(notebook, deferrable=deferrable, values_from=values_from)

    assert "values" not in one.run()
    assert "values" not in one.ti.pushed


@pytest.mark.parametrize("options", [{}, {"deferrable": True}], ids=["poke", "deferred"])
@pytest.mark.parametrize("has_ended", [True, False], ids=["ended", "running"])
def test_the_sensor_returns_the_values_too(
    losant: Emulator, notebook: str, options: dict[str, Any], has_ended: bool
) -> None:
    losant.script(notebook, Script(notebook=0.0 if has_ended else 0.2, files={"values.json": b"[1]"}))
    one = sensor(notebook, LosantHook().execute_notebook(notebook), **options)

    result = one.run()

    assert result["values"] == one.ti.pushed["values"] == [1]
    assert len(one.deferrals) == ("deferrable" in options and not has_ended)


def test_a_sensor_that_starts_in_the_triggerer_reads_the_values_in_the_worker(
    losant: Emulator, notebook: str
) -> None:
    execution = LosantHook().execute_notebook(notebook)
    made = sensor(notebook, execution, deferrable=True, start_from_trigger=True)
    arguments = getattr(made.make(), "start_trigger_args", None)

    result = sensor(notebook, execution).run()
    losant.script(notebook, Script(ending="hang"))
    deferred = sensor(notebook, LosantHook().execute_notebook(notebook), deferrable=True).make()
    with pytest.raises(TaskDeferred) as deferral:
        deferred.execute(context_of(Ti()))
    ti = Ti()
    resumed = made.make().execute_complete(
        context_of(ti), {"ending": "ended", "is_success": True, "result": result}
    )

    assert resumed["values"] == ti.pushed["values"] == VALUES
    assert "values_from" not in json.dumps(deferral.value.trigger.serialize())
    if arguments is not None:  # Airflow 3.3 and later
        assert "values_from" not in arguments.trigger_kwargs


@BOTH_MODES
def test_an_adopted_execution_hands_on_its_values(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.3, files={"values.json": b"[7]"}))
    running = LosantHook().execute_notebook(notebook)

    result = run_task(notebook, deferrable=deferrable, if_running="adopt").run()

    assert (result["execution_id"], result["values"]) == (running, [7])


@BOTH_MODES
def test_a_failed_execution_has_no_values(losant: Emulator, notebook: str, *, deferrable: bool) -> None:
    losant.script(notebook, script(b"[1]", ending="errored", errors=(("ValueError", "boom"),)))
    one = run_task(notebook, deferrable=deferrable)

    with pytest.raises(Exception, match=r"ended with status errored.*ValueError: boom"):
        one.run()
    assert "values" not in one.ti.pushed


# -- what is refused --------------------------------------------------------------------------------------


@BOTH_MODES
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "has no output 'values.json'; its outputs: result.html. Losant keeps it if the notebook's"),
        (b'{"a": NaN}', "is not JSON: it contains NaN"),
        (b"42", "is not a JSON object or array"),
        (b"[" * 9_000, "is not JSON: "),
        (
            b'["' + b"x" * 47_997 + b'"]',
            "values.json: 48,001 bytes, more than the limit of values_from (48,000)",
        ),
    ],
    ids=["missing", "NaN", "number", "nested", "too large"],
)
def test_unusable_values_are_a_final_error_that_names_file_and_execution(
    losant: Emulator, notebook: str, content: bytes | None, says: str, *, deferrable: bool
) -> None:
    losant.script(notebook, script(content))
    one = run_task(notebook, deferrable=deferrable)

    with pytest.raises(LosantConfigError) as caught:
        one.run()

    message = str(caught.value)
    assert message.startswith("values_from: ")
    assert says in message
    assert "values.json" in message
    assert losant.executions(notebook)[0]["id"] in message
    assert (CONFIGURATION in message) == (content is None)
    assert losant.executions(notebook)[0]["status"] == "completed"
    assert cancels(losant) == 0
    assert "values" not in one.ti.pushed


@BOTH_MODES
def test_values_of_48000_bytes_are_accepted(losant: Emulator, notebook: str, *, deferrable: bool) -> None:
    losant.script(notebook, script(b'["' + b"x" * 47_996 + b'"]'))

    assert len(run_task(notebook, deferrable=deferrable).run()["values"][0]) == 47_996


@pytest.mark.parametrize("options", [{}, {"deferrable": True}], ids=["poke", "deferred"])
def test_unusable_values_fail_the_sensor_without_a_retry(
    losant: Emulator, notebook: str, options: dict[str, Any]
) -> None:
    losant.script(notebook, Script(notebook=0.1, files={"values.json": b"kwh"}))

    with pytest.raises(LosantConfigError, match=r"values_from: values\.json of the execution .* is not JSON"):
        sensor(notebook, LosantHook().execute_notebook(notebook), **options).run()


def test_a_task_that_does_not_wait_is_refused_when_its_dag_is_parsed(losant: Emulator, notebook: str) -> None:
    with pytest.raises(LosantConfigError, match=r"^values_from: needs wait_for_completion=True"):
        LosantNotebookExecuteOperator(
            task_id="report", notebook_id=notebook, values_from="values.json", wait_for_completion=False
        )
    for empty in ("", None):
        assert run_task(notebook, values_from=empty, wait_for_completion=False).run()["status"] == "queued"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"values_from": "{{ name }}", "wait_for_completion": False},
            "values_from: needs wait_for_completion",
        ),
        (
            {"values_from": "../values.json"},
            "values_from: '../values.json' is not the name of an output file",
        ),
        ({"values_from": 42}, "values_from: 42 is not the name of an output file"),
    ],
    ids=["rendered", "path", "number"],
)
def test_an_invalid_argument_is_named_before_the_submission(
    losant: Emulator, notebook: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(LosantConfigError, match=says):
        run_task(notebook, **options).run()
    assert losant.requests == []


def test_an_invalid_argument_of_the_sensor_is_named_before_the_wait(losant: Emulator, notebook: str) -> None:
    with pytest.raises(LosantConfigError, match="values_from: '/etc/passwd' is not the name"):
        sensor(notebook, "0" * 24, values_from="/etc/passwd").run()
    assert losant.requests == []


# -- reading again instead of running again ---------------------------------------------------------------


@BOTH_MODES
@pytest.mark.parametrize("fault", ["server_error", "reset_before", "truncated"])
def test_a_temporary_failure_of_the_file_host_is_repeated(
    losant: Emulator, notebook: str, fault: Any, *, deferrable: bool
) -> None:
    losant.inject("files.get", Fault(fault))

    assert run_task(notebook, deferrable=deferrable).run()["values"] == VALUES


@BOTH_MODES
def test_a_retry_after_a_failure_of_the_file_host_only_reads_again(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    ti = Ti(max_tries=1)
    losant.inject("files.get", Fault("server_error"), times=2)
    with pytest.raises(NotebookOutputError, match="The values could not be read: the file host returned 503"):
        run_task(notebook, ti, deferrable=deferrable).run()
    assert "values" not in ti.pushed

    ti.try_number += 1
    result = run_task(notebook, ti, deferrable=deferrable).run()

    assert result["values"] == VALUES
    assert operations(losant).count("notebook.execute") == 1
    assert cancels(losant) == 0


def test_a_failure_of_the_file_host_in_the_last_try_does_not_cancel_the_completed_execution(
    losant: Emulator, notebook: str
) -> None:
    losant.inject("files.get", Fault("server_error"), times=2)

    with pytest.raises(NotebookOutputError):
        run_task(notebook).run()
    assert cancels(losant) == 0


@pytest.mark.parametrize("options", [{}, {"deferrable": True}], ids=["poke", "deferred"])
def test_a_failure_of_the_file_host_is_retryable_for_the_sensor(
    losant: Emulator, notebook: str, options: dict[str, Any]
) -> None:
    losant.script(notebook, Script(notebook=0.1, files={"values.json": b"[1]"}))
    execution = LosantHook().execute_notebook(notebook)
    losant.inject("files.get", Fault("server_error"), times=2)

    with pytest.raises(NotebookOutputError, match="The values could not be read"):
        sensor(notebook, execution, **options).run()
    assert sensor(notebook, execution, **options).run()["values"] == [1]


@BOTH_MODES
def test_a_failure_of_losant_after_the_end_only_delays_the_values(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    ti = Ti(max_tries=1)
    one = run_task(notebook, ti, deferrable=True)
    with pytest.raises(TaskDeferred) as deferral:
        one.make().execute(context_of(ti))
    event = fire(deferral.value.trigger)
    losant.inject("notebook.logs", Fault("server_error"), times=2)
    with pytest.raises(NotebookOutputError, match="The values could not be read: Losant returned 503"):
        one.make().execute_complete(context_of(ti), event)

    ti.try_number += 1

    assert run_task(notebook, ti, deferrable=deferrable).run()["values"] == VALUES
    assert operations(losant).count("notebook.execute") == 1


@pytest.mark.parametrize("is_fixed", [True, False], ids=["right name", "wrong name"])
def test_a_cleared_task_with_reconnect_after_clear_only_reads_again(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, is_fixed: bool
) -> None:
    monkeypatch.setenv(f"AIRFLOW__{'API' if AIRFLOW_3 else 'WEBSERVER'}__BASE_URL", "https://airflow.example")
    with pytest.raises(LosantConfigError):
        run_task(notebook, values_from="value.json").run()
    cleared = run_task(
        notebook,
        Ti(try_number=2, max_tries=1),
        values_from="values.json" if is_fixed else "value.json",
        reconnect_after_clear=True,
    )

    if is_fixed:
        assert cleared.run()["values"] == VALUES
    else:
        with pytest.raises(LosantConfigError):
            cleared.run()
    assert operations(losant).count("notebook.execute") == 1
    assert cancels(losant) == 0


def test_an_expired_url_is_replaced(losant: Emulator, notebook: str) -> None:
    refuse_first_signature(losant)

    assert run_task(notebook).run()["values"] == VALUES
    assert len(losant.executions(notebook)) == 1


def test_outputs_are_saved_before_the_values_are_found_unusable(
    losant: Emulator, notebook: str, tmp_path: Any
) -> None:
    losant.script(notebook, script(b"kwh"))

    with pytest.raises(LosantConfigError, match="is not JSON"):
        run_task(notebook, save_outputs_to=str(tmp_path)).run()
    assert (tmp_path / "values.json").read_bytes() == b"kwh"


# -- where values are, and where not ----------------------------------------------------------------------


def test_values_are_in_no_trigger_event_log_line_asset_event_or_link(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    logging.getLogger().setLevel(logging.DEBUG)
    outlet = Asset("reports")
    events = outlet_events()
    one = run_task(notebook, deferrable=True, outlets=[outlet])
    one.more = {"outlet_events": events}

    result = one.run()

    (deferral,) = one.deferrals
    assert result["values"] == VALUES
    assert "SECRET" not in json.dumps(fire(deferral.trigger))
    assert "SECRET" not in json.dumps(deferral.trigger.serialize())
    assert "SECRET" not in task_log()
    assert events[outlet].extra["status"] == "completed"
    assert "SECRET" not in json.dumps(events[outlet].extra)
    assert "SECRET" not in one.ti.pushed["losant_notebook_link"]
    assert {key for key, it in one.ti.pushed.items() if "SECRET" in json.dumps(it)} == {"values"}


# -- the hook ---------------------------------------------------------------------------------------------


def test_the_hook_returns_the_content_of_one_output(losant: Emulator, notebook: str) -> None:
    hook = LosantHook()
    execution = run_task(notebook, values_from=None).run()["execution_id"]
    losant.script(notebook, script(None))
    without = run_task(notebook, values_from=None).run()["execution_id"]

    assert json.loads(hook.read_output(notebook, execution, "values.json")) == VALUES
    with pytest.raises(OutputError, match=r"values\.json: \d+ bytes, more than max_bytes \(10\)"):
        hook.read_output(notebook, execution, "values.json", max_bytes=10)
    with pytest.raises(OutputError, match=r"has no output 'values\.json'; its outputs: result\.html"):
        hook.read_output(notebook, without, "values.json")
    with pytest.raises(OutputError, match=r"has no output '\*'"):
        hook.read_output(notebook, execution, "*")
    for arguments in ({"name": ""}, {"name": "values.json", "max_bytes": 0}):
        given: dict[str, Any] = dict(arguments)
        with pytest.raises(LosantConfigError, match=r"^name: is missing|^max_bytes: 0 is not"):
            hook.read_output(notebook, execution, **given)


@pytest.mark.parametrize("size", [None, 90, 20_000], ids=["unknown", "less", "more"])
def test_a_host_that_sends_more_than_is_allowed_is_not_read_to_its_end(
    losant: Emulator, notebook: str, size: int | None
) -> None:
    sent: list[int] = []

    def endless(_: bytes) -> Any:
        yield http(b"", Content_Length="10000000000").replace(b"Content-Length: 0\r\n", b"")
        while True:
            sent.append(1)
            yield b"x" * 65_536

    with HttpStub(endless) as host:
        file: Mapping[str, Any] = {"url": f"{host.url}/x?signature=secret"}
        file = file if size is None else {**file, "size": size}
        listed = entry("completed", outputInfo={"values.json": file})
        own = {"applicationId": losant.application_id, "notebookId": notebook}
        losant.add_log_entry(notebook, {**listed, **own})
        with pytest.raises(
            Exception, match=r"more than 100 bytes|sent [\d,]+ of 90 bytes|20,000 bytes"
        ) as caught:
            LosantHook().read_output(notebook, listed["id"], "values.json", max_bytes=100)

    assert "signature" not in str(caught.value)
    assert len(sent) < 200


def test_the_values_of_a_file_of_unknown_size_are_read(losant: Emulator, notebook: str) -> None:
    with HttpStub(http(b'{"limit": 1}')) as host:
        listed = entry("completed", outputInfo={"values.json": {"url": f"{host.url}/x"}})
        own = {"applicationId": losant.application_id, "notebookId": notebook}
        losant.add_log_entry(notebook, {**listed, **own})

        assert sensor(notebook, listed["id"]).run()["values"] == {"limit": 1}


def test_a_mapped_task_has_values_of_its_own(losant: Emulator, notebook: str) -> None:
    results = [run_task(notebook, Ti(map_index=index)).run() for index in range(2)]

    assert [it["values"] for it in results] == [VALUES, VALUES]
    assert len({it["execution_id"] for it in results}) == 2
