# SPDX-License-Identifier: Apache-2.0
"""A wrong argument is refused in a sentence that names it, when the DAG is parsed if it stands in the DAG."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_losant.api.defaults import FINAL_STATUSES
from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.model import STATUSES
from airflow_provider_losant.assets.notebook import create_asset, notebook_asset
from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.hooks.arguments import (
    PARSERS,
    UPLOAD_PARSERS,
    parse_argument,
    parse_optional,
)
from airflow_provider_losant.operators.export import LosantNotebookInputDataExportOperator
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator
from airflow_provider_losant.operators.upload import LosantNotebookUploadOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from airflow_provider_losant.transfers.notebook_outputs import LosantNotebookOutputsToObjectStorageOperator
from airflow_provider_losant.triggers.notebook import LosantNotebookEventTrigger
from tests.provider.tasks import Ti, context_of
from tests.support.paths import ROOT
from tests.support.source_files import PACKAGE

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

ID = "5" * 24
NOTEBOOK: dict[str, Any] = {"notebook_id": ID}
OPERATORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "execute": (LosantNotebookExecuteOperator, NOTEBOOK),
    "sensor": (LosantNotebookExecutionSensor, {**NOTEBOOK, "execution_id": ID}),
    "chooser": (LosantNotebookExecutionSensor, {**NOTEBOOK, "since": "2026-01-01"}),
    "upload": (LosantNotebookUploadOperator, {**NOTEBOOK, "path": "/report.ipynb"}),
    "export": (LosantNotebookInputDataExportOperator, NOTEBOOK),
    "sweep": (LosantNotebookOrphanSweepOperator, {}),
    "copy": (
        LosantNotebookOutputsToObjectStorageOperator,
        {**NOTEBOOK, "execution_id": ID, "destination": "/reports"},
    ),
}
FLAGS = {
    "execute": [
        *("wait_for_completion", "deferrable", "cancel_on_kill", "cancel_on_timeout", "durable"),
        *("reconnect_after_clear", "log_output"),
    ],
    "sensor": ["deferrable", "start_from_trigger", "log_output"],
    "upload": ["create"],
}
NO_FLAG: tuple[Any, ...] = ("True", "false", 1, 0, None, [])
SECONDS = {
    "execute": ["poll_interval", "timeout", "max_poll_outage", "max_log_lag"],
    "sensor": ["max_log_lag"],
    "sweep": ["min_age", "max_age"],
}
NO_SECONDS = ("1h", "30", -1, 0, None, True, [30], "{{ params.seconds }}", timedelta(seconds=-1))
NO_ID = ("Report", "Daily report", ID[1:], 7, ID + "/x", ["5" * 24], True)
IDS = {
    "execute": ["application_id"],
    "sensor": ["execution_id", "application_id"],
    "upload": ["application_id"],
    "export": ["application_id"],
    "sweep": ["application_id"],
    "copy": ["execution_id", "application_id"],
}
EMAIL, URL = (
    ("Ada", "ada@", "a@b.example, c@d.example", 7, True),
    ("hooks.example/x", "ftp://hooks.example", "http://hooks.example]", 7),
)
CIRCULAR: dict[str, Any] = {}
CIRCULAR["a"] = [CIRCULAR]
OTHERS: list[tuple[str, str, Any]] = [
    ("execute", "if_running", "queue"),
    ("execute", "if_running", None),
    ("execute", "if_running", ["wait"]),
    ("execute", "minutes_window", "month"),
    ("execute", "on_exceeded", "cry"),
    ("execute", "save_outputs_when", "never"),
    *(("execute", "max_minutes", it) for it in ("30", 0, -5, True, float("nan"), [30])),
    *(("execute", "retry_on", it) for it in ("failed", ["errored", "completed"], None, 5, {"errored": True})),
    *(("execute", "save_outputs_to", it) for it in (7, ["/reports"])),
    *(("execute", "values_from", it) for it in ("/etc/passwd", "reports/", 7)),
    *((one, "notification_email", it) for one in ("execute", "export") for it in EMAIL),
    *((one, "callback_url", it) for one in ("execute", "export") for it in URL),
    *((one, "relative_to", it) for one in ("execute", "export") for it in ("yesterday", 1767225600, True)),
    *((one, "losant_conn_id", it) for one in OPERATORS for it in (7, ["losant_default"])),
    *(("chooser", "since", it) for it in ("yesterday", 1767225600)),
    *(("chooser", "statuses", it) for it in ("completed", [], ["done"], 7)),
    *(("upload", "path", it) for it in (7, ["a.ipynb"], b"a.ipynb")),
    *(("upload", "description", it) for it in (7, ["text"])),
    *(("upload", "image_version", it) for it in (4, "")),
    *(("upload", field, it) for field in ("inputs", "outputs") for it in ("[]", {"a": 1}, ["a.csv"], 7)),
    ("upload", "outputs", [{"since": b"2026"}]),
    ("upload", "inputs", [CIRCULAR]),
    ("sweep", "notebook_ids", [CIRCULAR]),
    *(("sweep", "notebook_ids", it) for it in (ID, [ID, "Report"], 7, [ID, None], {ID: 1})),
    *(("copy", "outputs", it) for it in ([], ["a.csv", ""], ["a.csv", None], 7)),
    *(("copy", "destination", it) for it in (7, ["/reports"])),
    *(("copy", "max_bytes", it) for it in ("1000", 0, -1, 1.5, True)),
    ("copy", "if_exists", "rename"),
]
WRONG = [
    *((one, field, it) for one, fields in FLAGS.items() for field in fields for it in NO_FLAG),
    *((one, field, it) for one, fields in SECONDS.items() for field in fields for it in NO_SECONDS),
    *((one, field, it) for one, fields in IDS.items() for field in fields for it in NO_ID),
    *((one, "notebook_id", it) for one in OPERATORS if one != "sweep" for it in NO_ID),
    *OTHERS,
]


def make(kind: str, **options: Any) -> Any:
    operator, given = OPERATORS[kind]
    return operator(**{"task_id": "report", **given, **options})


@pytest.mark.parametrize(("kind", "field", "value"), WRONG, ids=str)
def test_a_wrong_argument_is_named_when_the_dag_is_parsed(kind: str, field: str, value: Any) -> None:
    with pytest.raises(LosantConfigError, match=rf"^{field}(\[.*\])?: "):
        make(kind, **{field: value})


RENDERED = [
    *((one, field) for one, fields in IDS.items() for field in fields),
    *((one, field) for one in ("execute", "export") for field in ("relative_to", "notification_email")),
    *((one, "callback_url") for one in ("execute", "export")),
    *(("execute", field) for field in ("save_outputs_to", "values_from", "template_context")),
    *(("copy", "destination"), ("copy", "outputs"), ("upload", "path"), ("upload", "description")),
    *(("sweep", "notebook_ids"), ("execute", "notebook_id"), ("sensor", "losant_conn_id")),
]


@pytest.mark.parametrize(
    "template", ["{{ params.it }}", "{% if a %}x{% endif %}", "<< params.it >>"], ids=str
)
@pytest.mark.parametrize(("kind", "field"), RENDERED, ids=str)
def test_a_template_is_not_checked_before_it_is_rendered(kind: str, field: str, template: str) -> None:
    for value in (template, f"before {template}"):
        assert getattr(make(kind, **{field: value}), field) == value


@pytest.mark.parametrize(("kind", "field"), RENDERED, ids=str)
def test_the_output_of_another_task_is_not_checked_before_it_is_known(kind: str, field: str) -> None:
    with DAG("energy", schedule=None):
        upstream = LosantNotebookExecuteOperator(task_id="first", **NOTEBOOK)
        value = upstream.output["execution_id"]  # type: ignore[index]  # an output can be indexed

        assert getattr(make(kind, **{field: value}), field) is value


@pytest.mark.parametrize(
    ("kind", "field"), [(one, field) for one, fields in FLAGS.items() for field in fields], ids=str
)
def test_the_output_of_another_task_is_no_flag(kind: str, field: str) -> None:
    with DAG("energy", schedule=None):
        upstream = LosantNotebookExecuteOperator(task_id="first", **NOTEBOOK)

        with pytest.raises(LosantConfigError, match=rf"^{field}: .*renders no template here"):
            make(kind, **{field: upstream.output})


def test_a_list_with_a_template_in_it_is_not_checked_before_it_is_rendered() -> None:
    assert make("sweep", notebook_ids=["{{ params.it }}", "Report"]).notebook_ids[1] == "Report"
    assert make("copy", outputs=("{{ params.it }}", "")).outputs[1] == ""


def test_arguments_that_are_not_given_are_not_checked() -> None:
    for kind, (operator, given) in OPERATORS.items():
        default_none = {
            name: None
            for name, it in signature(operator.__init__).parameters.items()
            if it.default is None and name not in given
        }

        make(kind, **default_none)


def test_default_arguments_are_checked_like_others() -> None:
    with DAG("energy", schedule=None, default_args={"timeout": "1h"}):
        make("sensor", task_id="await", timeout=60)
        with pytest.raises(LosantConfigError, match=r"^timeout: '1h' is not a positive number of seconds"):
            make("execute")


def test_a_decorated_function_has_the_same_checks() -> None:
    @losant_notebook_task(notebook_id=ID, if_running="queue")  # type: ignore[arg-type]  # wrong here
    def report() -> None: ...

    with (
        DAG("energy", schedule=None),
        pytest.raises(LosantConfigError, match=r"^if_running: 'queue' is none"),
    ):
        report()


def test_mapped_values_are_checked_when_their_task_runs() -> None:
    with DAG("energy", schedule=None):
        mapped: Any = LosantNotebookExecuteOperator.partial(task_id="report", **NOTEBOOK).expand(
            timeout=["1h", 60]
        )

    assert mapped.unmap({"timeout": 60}).timeout == 60
    with pytest.raises(LosantConfigError, match=r"^timeout: '1h' is not"):
        mapped.unmap({"timeout": "1h"})


def test_every_argument_has_a_check_or_a_reason() -> None:
    without = {"self", "kwargs", "template_context", "context_contains"}
    """The contexts are checked by what reads them, when the task runs."""
    for operator, _ in OPERATORS.values():
        parsers = UPLOAD_PARSERS if operator is LosantNotebookUploadOperator else PARSERS
        names = set(signature(operator.__init__).parameters) - without

        assert names <= set(parsers), operator


def test_the_final_statuses_are_those_of_the_model() -> None:
    assert set(FINAL_STATUSES) == {name for name, status in STATUSES.items() if status.is_final}


def test_a_callback_url_that_is_wrong_is_not_shown() -> None:
    with pytest.raises(LosantConfigError) as caught:
        make("execute", callback_url="hooks.example/s3cret")

    assert "s3cret" not in str(caught.value)


def test_checking_arguments_loads_only_what_checks_them() -> None:
    code = f"""
import json, sys
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
known = set(sys.modules)
LosantNotebookExecuteOperator(task_id="report", notebook_id="{ID}", timeout=60, if_running="wait")
LosantNotebookExecutionSensor(task_id="await", notebook_id="{ID}", execution_id="{{{{ x }}}}")
print(json.dumps(sorted(set(sys.modules) - known)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    added = json.loads(done.stdout.splitlines()[-1])

    ours = {name.removeprefix(f"{PACKAGE}.") for name in added if name.startswith(PACKAGE)}

    # Airflow itself loads more on some versions.
    values = {"api.errors", "api.fields", "api.payloads", "api.timestamps"}
    assert ours <= {*values, "hooks", "hooks.arguments"}


NO_ARGUMENTS: dict[str, Any] = {
    "array": np.array(["a", "b"]),
    "scalar": np.datetime64("2026-01-01"),
    "series": pd.Series([1, 2]),
    "frame": pd.DataFrame({"a": [1]}),
    "NA": pd.NA,
    "NaT": pd.NaT,
    "huge": 10**5000,
    "huge and negative": -(10**5000),
    "complex": 1j,
}
"""Values that another task may return, which compare, convert or print in ways of their own."""


@pytest.mark.parametrize("kind", NO_ARGUMENTS)
def test_a_value_of_any_type_is_an_argument_or_refused_by_name(kind: str) -> None:
    for name in PARSERS:
        for parse in (parse_argument, parse_optional):
            for parsers in (PARSERS, UPLOAD_PARSERS):
                with suppress(InvalidArgument):
                    parse(name, NO_ARGUMENTS[kind], parsers)


@pytest.mark.usefixtures("losant_connection")
@pytest.mark.parametrize(
    ("operator", "name"),
    [
        *((one, name) for one in ("execute", "export") for name in ("notebook_id", "relative_to")),
        *(("execute", name) for name in ("notebook_name", "template_context", "save_outputs_to")),
        *(("chooser", name) for name in ("since", "context_contains")),
        *(("sensor", "execution_id"), ("copy", "destination"), ("copy", "outputs"), ("upload", "path")),
        *(("upload", "description"), ("sweep", "notebook_ids"), ("sweep", "losant_conn_id")),
    ],
    ids=str,
)
def test_a_value_of_any_type_from_another_task_is_refused_by_name(
    losant: Emulator, operator: str, name: str
) -> None:
    for value in NO_ARGUMENTS.values():
        one = make(operator, **{name: "{{ rendered }}"})
        if name == "notebook_name":
            one.notebook_id = None
        setattr(one, name, value)

        with pytest.raises(LosantConfigError, match=rf"^{name}(:|\[)"):
            one.execute(context_of(Ti()))

    assert losant.requests == []


# -- when the task runs -----------------------------------------------------------------------------------

AT_RUN_TIME = [
    ("execute", "notebook_id", "Report"),
    ("execute", "notification_email", "Ada"),
    ("execute", "callback_url", "hooks.example"),
    ("execute", "values_from", "../x"),
    ("execute", "save_outputs_to", 7),
    ("export", "notification_email", "Ada"),
    ("export", "callback_url", "hooks.example"),
    ("sensor", "execution_id", "Report"),
    ("upload", "path", "nope://bucket/report.ipynb"),
    ("upload", "path", None),
    ("upload", "notebook_id", "Report"),
    ("upload", "description", 7),
    ("copy", "destination", None),
    ("copy", "destination", "nope://bucket"),
    ("copy", "outputs", None),
    ("copy", "outputs", {"a.csv": 1}),
    ("copy", "execution_id", "Report"),
    ("sweep", "notebook_ids", ID),
    ("sweep", "notebook_ids", "[]"),
    ("sweep", "notebook_ids", [ID, "Report"]),
]


@pytest.mark.usefixtures("losant_connection")
@pytest.mark.parametrize(("kind", "field", "value"), AT_RUN_TIME, ids=str)
def test_a_rendered_argument_that_is_wrong_is_named_before_any_request(
    losant: Emulator, kind: str, field: str, value: Any
) -> None:
    one = make(kind, **{field: "{{ rendered }}"})
    setattr(one, field, value)

    with pytest.raises(LosantConfigError, match=f"^{field}: "):
        one.execute(context_of(Ti()))

    assert losant.requests == []


# -- event trigger and assets -----------------------------------------------------------------------------


@pytest.mark.airflow(since="3.0")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("batch", it) for it in NO_FLAG),
        *(("poll_interval", it) for it in NO_SECONDS),
        *(("notebook_id", it) for it in (*NO_ID, None, "{{ params.it }}")),
        *(("application_id", it) for it in NO_ID),
        *(("statuses", it) for it in ("completed", [], None, ["done"])),
        *(("losant_conn_id", it) for it in (7, None, "")),
        *(("context_contains", it) for it in ([1], "north")),
        *(("queue", it) for it in (7, "")),
    ],
    ids=str,
)
def test_a_wrong_argument_of_an_event_trigger_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        LosantNotebookEventTrigger(**{"notebook_id": ID, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("notebook_id", it) for it in NO_ID),
        *(("application_id", it) for it in (*NO_ID, None)),
        *(("output", it) for it in (7, "", ["a.csv"], "../a.csv")),
        *(("host", it) for it in (7, ["losant.example"], "https://https")),
        *(("extra", it) for it in (7, "text", ["a"])),
        *(("watchers", it) for it in (7, "watcher")),
    ],
    ids=str,
)
def test_a_wrong_argument_of_an_asset_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        create_asset(**{"notebook_id": ID, "application_id": ID, field: value})


@pytest.mark.usefixtures("losant_connection")
@pytest.mark.parametrize(("field", "value"), [("output", 7), ("losant_conn_id", 7), ("application_id", "x")])
def test_a_wrong_argument_of_an_asset_of_a_connection_is_named(field: str, value: Any) -> None:
    with pytest.raises((InvalidArgument, LosantConfigError), match=f"^{field}: "):
        notebook_asset(ID, **{field: value})
