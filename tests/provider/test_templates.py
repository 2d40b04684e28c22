# SPDX-License-Identifier: Apache-2.0
"""Templated arguments that are text stay text, whatever way Airflow renders; paths are rendered, too."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import Enum
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath

from airflow_provider_losant import templates
from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.export import LosantNotebookInputDataExportOperator
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator
from airflow_provider_losant.operators.upload import LosantNotebookUploadOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from airflow_provider_losant.transfers.notebook_outputs import LosantNotebookOutputsToObjectStorageOperator
from tests.provider.conftest import operations
from tests.provider.tasks import Ti, context_of

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

pytestmark = pytest.mark.usefixtures("losant_connection")

DAY = datetime(2026, 3, 29, tzinfo=UTC)
DIGITS = "123456789012345678901234"
CLASSES: dict[type, dict[str, Any]] = {
    LosantNotebookExecuteOperator: {"notebook_id": DIGITS},
    LosantNotebookUploadOperator: {"notebook_id": DIGITS, "path": "report.ipynb"},
    LosantNotebookInputDataExportOperator: {"notebook_id": DIGITS},
    LosantNotebookOrphanSweepOperator: {},
    LosantNotebookExecutionSensor: {"notebook_id": DIGITS, "execution_id": DIGITS},
    LosantNotebookOutputsToObjectStorageOperator: {
        "notebook_id": DIGITS,
        "execution_id": DIGITS,
        "destination": "/tmp/outputs",
    },
}
FIELDS = [
    (operator, field)
    for operator in CLASSES
    for field in operator.template_fields  # type: ignore[attr-defined]  # of each operator
    if field not in templates.JSON_FIELDS
]
EACH_FIELD = pytest.mark.parametrize(
    ("operator", "field"), FIELDS, ids=[f"{operator.__name__}-{field}" for operator, field in FIELDS]
)
NATIVE = pytest.mark.parametrize("native", [False, True], ids=["text", "native"])


def rendered(operator: Any, *, native: bool, replaced: Any = None, **options: Any) -> Any:
    """
    Return an operator of a DAG after Airflow has rendered its templates.

    :param replaced: Arguments that are set after those that are in the DAG have been checked.
    """
    dag = DAG(
        "energy",
        schedule=None,
        start_date=DAY,
        render_template_as_native_obj=native,
        user_defined_macros={"shout": str.upper},
    )
    with dag:
        task = operator(**{"task_id": "report", **CLASSES.get(operator, {}), **options})
    for name, value in (replaced or {}).items():
        setattr(task, name, value)
    variables = {
        **context_of(Ti()),
        "ds_nodash": "20260329",
        "day": DAY,
        "digits": DIGITS,
        "names": ["2024", "b*"],
        "empty": "",
        "nothing": None,
        "number": 2024,
    }
    task.render_template_fields(variables)
    return task


TEXTS = {
    "2024": "2024",
    "{{ ds_nodash }}": "20260329",
    "0012": "0012",
    "1e5": "1e5",
    "{{ digits }}": DIGITS,
    "{{ number }}": "2024",
    "[{{ number }}]": "[2024]",
    "{{ '2024' }}-{{ number }}": "2024-2024",
    "{{ shout('none') }} {% if number %}True{% endif %}": "NONE True",
    "{% if nothing %}x{% endif %}": "",
}


@NATIVE
@EACH_FIELD
def test_text_stays_text(operator: Any, field: str, native: bool) -> None:
    found = {
        template: getattr(rendered(operator, native=native, replaced={field: template}), field)
        for template in TEXTS
    }

    assert found == TEXTS


@EACH_FIELD
def test_a_native_template_of_one_expression_is_the_value_where_that_may_be_an_argument(
    operator: Any, field: str
) -> None:
    for name, value in {"day": DAY, "names": ["2024", "b*"], "nothing": None}.items():
        task = rendered(operator, native=True, replaced={field: f"{{{{ {name} }}}}"})

        assert getattr(task, field) == value


def test_every_templated_argument_is_rendered_as_text_or_as_json() -> None:
    known = templates.TEXT_FIELDS | templates.JSON_FIELDS

    assert {it for operator in CLASSES for it in operator.template_fields} == known  # type: ignore[attr-defined]


@NATIVE
def test_a_list_of_texts_stays_one(native: bool) -> None:
    sweep = rendered(LosantNotebookOrphanSweepOperator, native=native, notebook_ids=["{{ digits }}", "0012"])
    transfer = rendered(
        LosantNotebookOutputsToObjectStorageOperator, native=native, outputs=("7", "{{ ds_nodash }}")
    )

    assert sweep.notebook_ids == [DIGITS, "0012"]
    assert transfer.outputs == ("7", "20260329")


@NATIVE
def test_template_contexts_are_rendered_as_the_dag_wants(native: bool) -> None:
    context = MappingProxyType({"n": "{{ number }}", "in": ["{{ day }}"], "at": Path("/x/{{ ds_nodash }}")})
    operator = rendered(LosantNotebookExecuteOperator, native=native, template_context=context)
    sensor = rendered(
        LosantNotebookExecutionSensor, native=native, execution_id=None, since=DAY, context_contains=context
    )

    wanted = {"n": 2024, "in": [DAY]} if native else {"n": "2024", "in": [str(DAY)]}
    assert operator.template_context == sensor.context_contains == {**wanted, "at": "/x/20260329"}


class Site(str, Enum):  # noqa: UP042 - whose text is not its value, unlike that of StrEnum
    NORTH = "north"
    OF_DAY = "{{ ds_nodash }}"
    DIGITS = DIGITS


class Day(Enum):
    LAST = Path("/x/{{ ds_nodash }}")


@NATIVE
def test_a_template_context_is_sent_as_json_after_it_was_rendered(losant: Emulator, native: bool) -> None:
    notebook = losant.add_notebook()
    task = rendered(
        LosantNotebookExecuteOperator,
        native=native,
        notebook_id=notebook,
        template_context={
            "site": Site.NORTH,
            "in": [Site.OF_DAY, Day.LAST],
            "to": ObjectStoragePath("s3://aws@x/y"),
        },
        durable=False,
        wait_for_completion=False,
    )

    task.execute(context_of(Ti()))

    sent = json.loads(losant.requests[-1].body["templateContext"])
    day = 20260329 if native else "20260329"
    assert sent == {"site": "north", "in": [day, "/x/20260329"], "to": "s3://aws@x/y"}


@NATIVE
@EACH_FIELD
def test_a_member_of_an_enum_is_rendered_as_its_value(operator: Any, field: str, native: bool) -> None:
    for member, text in {Site.DIGITS: DIGITS, Site.OF_DAY: "20260329"}.items():
        assert getattr(rendered(operator, native=native, replaced={field: member}), field) == text


PATHS = [
    (LosantNotebookExecuteOperator, "save_outputs_to"),
    (LosantNotebookOutputsToObjectStorageOperator, "destination"),
    (LosantNotebookUploadOperator, "path"),
]
EACH_PATH = pytest.mark.parametrize(("operator", "field"), PATHS, ids=[field for _, field in PATHS])


@NATIVE
@EACH_PATH
@pytest.mark.parametrize("make", [Path, PurePosixPath, ObjectStoragePath])
def test_paths_are_rendered(operator: Any, field: str, make: Any, native: bool) -> None:
    for template, path in {
        "/x/{{ ds_nodash }}/y": "/x/20260329/y",
        "/x/{{ 'a/b' }}": "/x/a/b",
        "/missing/folder": "/missing/folder",
    }.items():
        found = getattr(rendered(operator, native=native, **{field: make(template)}), field)

        assert str(found).removeprefix("file://") == path


@NATIVE
@EACH_PATH
def test_a_url_in_a_path_of_object_storage_is_rendered(operator: Any, field: str, native: bool) -> None:
    given = ObjectStoragePath("s3://{{ ds_nodash }}/{{ number }}")

    found = getattr(rendered(operator, native=native, **{field: given}), field)

    assert (type(found), str(found)) == (type(given), "s3://20260329/2024")


NOTHING = [
    (make, template) for make in (str, Path) for template in ("{{ empty }}", "{{ nothing }}", "{{ empty }} ")
]
EACH_NOTHING = pytest.mark.parametrize(
    "nothing",
    [make(template) for make, template in NOTHING],
    ids=[f"{it[0].__name__} {it[1]}" for it in NOTHING],
)


@NATIVE
@EACH_NOTHING
@pytest.mark.parametrize(("operator", "field"), PATHS[1:], ids=["destination", "path"])
def test_a_folder_or_file_that_renders_to_nothing_is_refused_before_any_request(
    losant: Emulator, operator: Any, field: str, nothing: Any, native: bool
) -> None:
    find = {"notebook_id": None, "notebook_name": "Report"}
    task = rendered(operator, native=native, **find, **{field: nothing})

    with pytest.raises(LosantConfigError, match=rf"^{field}: is missing$"):
        task.execute(context_of(Ti()))

    assert losant.requests == []


@NATIVE
@EACH_NOTHING
def test_outputs_are_not_saved_to_a_folder_that_renders_to_nothing(
    notebook: str, nothing: Any, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = rendered(
        LosantNotebookExecuteOperator,
        native=native,
        notebook_id=notebook,
        save_outputs_to=nothing,
        poll_interval=0.02,
    )

    assert "saved_outputs" not in task.execute(context_of(Ti()))
    assert list(tmp_path.iterdir()) == []


def test_a_path_of_object_storage_that_renders_to_nothing_is_not_given() -> None:
    given = ObjectStoragePath("s3://bucket/x").__class__.deserialize(
        {"path": "{{ empty }}", "conn_id": None, "kwargs": {}}, ObjectStoragePath.__version__
    )

    task = rendered(LosantNotebookExecuteOperator, native=False, save_outputs_to=given)

    # Airflow before 3.1 makes an absolute path of it.
    assert str(task.save_outputs_to) in ("", "/")


@NATIVE
@pytest.mark.parametrize("template", ["{{ empty }}", "{{ nothing }}"])
def test_optional_arguments_that_render_to_nothing_are_not_given(
    losant: Emulator, notebook: str, template: str, native: bool
) -> None:
    optional = ("relative_to", "template_context", "notification_email", "callback_url", "application_id")
    options: dict[str, Any] = dict.fromkeys(optional, template)
    if template == "{{ nothing }}" and not native:
        options["relative_to"] = ""  # Losant would use the current time
    execute = {"save_outputs_to": template, "values_from": template, "durable": False, "poll_interval": 0.02}
    export = rendered(
        LosantNotebookInputDataExportOperator,
        native=native,
        notebook_id=notebook,
        notebook_name=None,
        **options,
    )
    operator = rendered(
        LosantNotebookExecuteOperator, native=native, notebook_id=notebook, **options, **execute
    )
    sensor = rendered(
        LosantNotebookExecutionSensor,
        native=native,
        notebook_id=notebook,
        **dict.fromkeys(("since", "context_contains", "values_from"), template),
        execution_id=operator.execute(context_of(Ti()))["execution_id"],
    )

    export.execute(context_of(Ti()))
    assert sensor.execute(context_of(Ti()))["status"] == "completed"

    bodies = {it.operation: it.body for it in losant.requests if it.body is not None}
    assert bodies["notebook.execute"] == {}
    assert bodies["notebook.requestInputDataExport"] == {}


@pytest.mark.parametrize("operator", [LosantNotebookExecuteOperator, LosantNotebookInputDataExportOperator])
def test_a_query_time_of_none_is_refused(losant: Emulator, notebook: str, operator: Any) -> None:
    task = rendered(operator, native=False, notebook_id=notebook, relative_to="{{ nothing }}")

    with pytest.raises(LosantConfigError, match=r"^relative_to: 'None' is not a timestamp"):
        task.execute(context_of(Ti()))

    assert losant.requests == []


@NATIVE
@pytest.mark.parametrize("template", ["{{ empty }}", "{{ nothing }}"])
def test_an_upload_finds_the_notebook_by_name_if_the_id_renders_to_nothing(
    losant: Emulator, tmp_path: Path, template: str, native: bool
) -> None:
    file = tmp_path / "2024.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    made = losant.add_notebook("2024")
    LosantHook().update_notebook(made, description="kept")
    task = rendered(
        LosantNotebookUploadOperator,
        native=native,
        path=str(file),
        notebook_id=template,
        notebook_name="2024",
        description="{{ nothing }}",
    )

    assert task.execute(context_of(Ti()))["notebook_id"] == made
    assert LosantHook().get_notebook(made).description == "kept"


@NATIVE
def test_a_missing_connection_is_named(notebook: str, native: bool) -> None:
    task = rendered(
        LosantNotebookExecuteOperator, native=native, notebook_id=notebook, losant_conn_id="{{ nothing }}"
    )

    with pytest.raises(LosantConfigError, match=r"^losant_conn_id: is missing$"):
        task.execute(context_of(Ti()))


@NATIVE
def test_an_id_of_digits_and_a_date_of_digits_reach_losant(losant: Emulator, native: bool) -> None:
    task = rendered(
        LosantNotebookExecuteOperator,
        native=native,
        relative_to="{{ ds_nodash }}",
        notebook_id="{{ digits }}",
        application_id="{{ digits }}",
    )

    with pytest.raises(LosantConfigError, match=DIGITS):
        task.execute(context_of(Ti()))

    [request] = losant.requests
    assert request.body["relativeTo"] == "2026-03-29T00:00:00.000Z"
    assert request.path == f"/applications/{DIGITS}/notebooks/{DIGITS}/execute"
    assert operations(losant) == ["notebook.execute"]


@NATIVE
def test_arguments_of_the_decorator_are_rendered_as_text(native: bool) -> None:
    @losant_notebook_task(notebook_name="2024", relative_to="{{ ds_nodash }}")
    def report() -> None:
        pass

    def operator(**_: Any) -> Any:
        return report().operator  # type: ignore[attr-defined]  # of one task

    task = rendered(operator, native=native)

    assert (task.notebook_name, task.relative_to) == ("2024", "20260329")


@pytest.mark.airflow(since="3.2")
@pytest.mark.parametrize("of_dag", [False, True])
def test_a_task_that_chooses_how_to_render_for_itself_gets_text_as_well(of_dag: bool) -> None:
    task = rendered(
        LosantNotebookExecuteOperator,
        native=of_dag,
        relative_to="{{ ds_nodash }}",
        notebook_id="{{ digits }}",
        template_context={"n": "{{ number }}"},
        render_template_as_native_obj=not of_dag,
    )

    assert (task.relative_to, task.notebook_id) == ("20260329", DIGITS)
    assert task.template_context == {"n": "2024" if of_dag else 2024}


def test_fields_of_a_subclass_are_rendered_as_airflow_does() -> None:
    class Own(LosantNotebookExecuteOperator):
        template_fields = (*LosantNotebookExecuteOperator.template_fields, "mine")

        def __init__(self, *, mine: Any, **options: Any) -> None:
            super().__init__(**options)
            self.mine = mine

    task = rendered(Own, native=True, notebook_id=DIGITS, mine="{{ number }}")

    assert task.mine == 2024


@pytest.mark.parametrize("operator", CLASSES)
def test_a_subclass_may_set_its_own_field_after_its_base_class(operator: Any) -> None:
    class Own(operator):  # type: ignore[misc]  # a class that is a parameter
        template_fields = (*operator.template_fields, "mine")

        def __init__(self, *, mine: Any, **options: Any) -> None:
            super().__init__(**options)
            self.mine = mine

    in_trigger = {"deferrable": True, "start_from_trigger": True}
    options = in_trigger if operator is LosantNotebookExecutionSensor else {}

    task = rendered(Own, native=False, mine="{{ ds_nodash }}", **CLASSES[operator], **options)

    assert task.mine == "20260329"


def test_an_undefined_variable_is_an_error_in_native_templates_as_well() -> None:
    undefined = import_module("jinja2").UndefinedError

    for native in (False, True):
        with pytest.raises(undefined, match="unknown"):
            rendered(LosantNotebookExecuteOperator, native=native, relative_to="{{ unknown }}")
