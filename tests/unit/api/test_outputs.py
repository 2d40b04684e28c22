# SPDX-License-Identifier: Apache-2.0
"""Downloading the files of an execution: which, how large, and when to request a new URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api.errors import (
    FileAccessDenied,
    InvalidArgument,
    NotFound,
    OutputError,
    ServerError,
    TransportError,
)
from airflow_provider_losant.api.flows.outputs import (
    OutputSelection,
    download,
    find_execution,
    output_configuration,
    read_output,
)
from airflow_provider_losant.api.timestamps import to_milliseconds
from tests.support.factories import CREATED_AT, REF, execution, execution_id_at, published
from tests.unit.api.flow_driver import FlowDriver

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import OpenSink
    from airflow_provider_losant.api.model import Execution, File


class Store:
    """Stores the content of files by name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def place(self, file: File) -> OpenSink:
        return partial(self._open, file.name)

    @contextmanager
    def _open(self, name: str) -> Iterator[BytesIO]:
        sink = BytesIO()
        yield sink
        self.files[name] = sink.getvalue()


def with_outputs(
    *names: str, status: str = "completed", url: str | None = "https://x/1", size: Any = 3
) -> Execution:
    return execution(status, outputInfo={name: {"url": url, "size": size} for name in names})


def download_outputs(
    driver: FlowDriver, *names: str, max_bytes: int | None = None, retries: int = 2, place: Any = None
) -> tuple[dict[str, bytes], Any]:
    store = Store()
    choice = OutputSelection.parse(names or ("*",), max_bytes)
    return store.files, driver.drive(download(REF, choice, place or store.place, retries))


def test_all_files_are_downloaded_unless_some_are_selected() -> None:
    listed = with_outputs("result.html", "a.csv", "b.csv", "plots/a.png")
    all_files, saved = download_outputs(FlowDriver([[listed]], files=[b"one", b"two", b"3", b"four"]))
    some, _ = download_outputs(FlowDriver([[listed]], files=[b"one", b"two"]), "*.csv")
    nested, _ = download_outputs(FlowDriver([[listed]], files=[b"one"]), "plots/*")

    assert all_files == {"result.html": b"one", "a.csv": b"two", "b.csv": b"3", "plots/a.png": b"four"}
    assert saved == {"result.html": 3, "a.csv": 3, "b.csv": 1, "plots/a.png": 4}
    assert list(some) == ["a.csv", "b.csv"]
    assert list(nested) == ["plots/a.png"]


def test_an_execution_without_outputs_has_nothing_to_download() -> None:
    assert download_outputs(FlowDriver([[with_outputs()]])) == ({}, {})


@pytest.mark.parametrize(
    ("listed", "names", "max_bytes", "says"),
    [
        (with_outputs("a.csv"), ["a.csv", "b.csv"], None, r"has no output 'b\.csv'; its outputs: a\.csv"),
        (with_outputs(), ["*.csv"], None, r"has no output '\*\.csv'; its outputs: none"),
        (with_outputs("a.csv", status="inProgress"), ["a.csv"], None, r"has not ended \(inProgress\)"),
        (with_outputs("a.csv", "b.csv"), ["*"], 5, r"a\.csv, b\.csv: 6 bytes, more than max_bytes \(5\)"),
        (with_outputs("a.csv", url=None), ["*"], None, r"no URL for a\.csv"),
        (with_outputs("../a"), ["*"], None, "is not a valid file name"),
        (with_outputs("a/../../b"), ["*"], None, "is not a valid file name"),
        (with_outputs("/etc/passwd"), ["*"], None, "is not a valid file name"),
        (with_outputs("s3://bucket/a"), ["*"], None, "is not a valid file name"),
        (with_outputs("a\\b"), ["*"], None, "is not a valid file name"),
        (with_outputs(".."), ["*"], None, "is not a valid file name"),
        (with_outputs("a\n"), ["*"], None, "is not a valid file name"),
    ],
    ids=range(12),
)
def test_unexpected_outputs_are_refused_before_any_download(
    listed: Execution, names: list[str], max_bytes: int | None, says: str
) -> None:
    driver = FlowDriver([[listed]])

    with pytest.raises(OutputError, match=says):
        download_outputs(driver, *names, max_bytes=max_bytes)
    assert driver.fetches == []


def test_dots_in_a_name_do_not_leave_the_folder() -> None:
    stored, _ = download_outputs(
        FlowDriver([[with_outputs("..a", "b..csv", ".hidden")]], files=[b"1", b"2", b"3"])
    )

    assert list(stored) == ["..a", "b..csv", ".hidden"]


def test_existing_files_are_checked_first_and_not_downloaded() -> None:
    store, checked = Store(), []

    def place(file: File) -> Any:
        checked.append(file.name)
        return None if file.name == "a.csv" else store.place(file)

    driver = FlowDriver([[with_outputs("a.csv", "b.csv")]], files=[b"one"])
    _, saved = download_outputs(driver, place=place)

    assert checked == ["a.csv", "b.csv"]
    assert saved == {"a.csv": None, "b.csv": 3}


def test_an_expired_url_is_renewed_once() -> None:
    renewed = with_outputs("a.csv", url="https://x/2")
    driver = FlowDriver([[with_outputs("a.csv")], [renewed]], files=[FileAccessDenied("403"), b"one"])

    stored, _ = download_outputs(driver)

    assert [it.url for it in driver.fetches] == ["https://x/1", "https://x/2"]
    assert stored == {"a.csv": b"one"}
    assert "https" not in driver.log

    driver = FlowDriver(
        [[with_outputs("a.csv")], [renewed]], files=[FileAccessDenied("403"), FileAccessDenied("403"), b"one"]
    )
    with pytest.raises(FileAccessDenied):
        download_outputs(driver)


def test_an_output_missing_from_the_renewed_list_is_an_error() -> None:
    with pytest.raises(OutputError, match="no longer has"):
        download_outputs(
            FlowDriver([[with_outputs("a.csv")], [with_outputs()]], files=[FileAccessDenied("403")])
        )


def test_an_interrupted_download_is_retried_a_few_times() -> None:
    driver = FlowDriver(
        [[with_outputs("a.csv")]], files=[TransportError("broke off"), TransportError("broke off"), b"one"]
    )
    stored, _ = download_outputs(driver)
    assert stored == {"a.csv": b"one"}
    assert len(driver.sleeps) == 2

    driver = FlowDriver([[with_outputs("a.csv")]], files=[TransportError("broke off")] * 3)
    with pytest.raises(TransportError):
        download_outputs(driver)


def test_files_of_unknown_size_share_the_limit() -> None:
    driver = FlowDriver([[with_outputs("a", "b", size=None)]], files=[b"12345", b"67"])

    download_outputs(driver, max_bytes=10)

    assert [it.limit for it in driver.fetches] == [10, 5]


def test_an_execution_is_searched_near_its_creation_time_and_then_everywhere() -> None:
    driver = FlowDriver([[execution(execution_id=execution_id_at(1))], [execution()]])

    assert driver.drive(find_execution(REF, 0)).ref == REF
    assert [it.query.get("since") for it in driver.calls] == [to_milliseconds(CREATED_AT - 300), None]
    with pytest.raises(NotFound, match=r"^The execution log of notebook \w+ does not list execution \w+$"):
        FlowDriver([[]]).drive(find_execution(REF, 0))
    with pytest.raises(ServerError):
        FlowDriver([ServerError(503, "", "away")]).drive(find_execution(REF, 1))


@pytest.mark.parametrize(
    ("names", "max_bytes", "field"), [("", None, "outputs"), ([], None, "outputs"), ("*", 0, "max_bytes")]
)
def test_an_empty_selection_is_refused(names: Any, max_bytes: Any, field: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        OutputSelection.parse(names, max_bytes)


# -- one output in memory ---------------------------------------------------------------------------------


def read(driver: FlowDriver, name: str, max_bytes: int = 100) -> bytes:
    return driver.drive(read_output(REF, OutputSelection.parse_name(name, max_bytes), 2))


@pytest.mark.parametrize("name", ["*", "[a].csv", "a.csv"])
def test_the_name_of_one_output_is_taken_literally(name: str) -> None:
    listed = with_outputs("a.csv", "[a].csv", "b.csv", "*")

    driver = FlowDriver([[listed]], files=[b"one"])

    assert read(driver, name) == b"one"
    assert len(driver.fetches) == 1
    with pytest.raises(
        OutputError, match=r"has no output '\*\.csv'; its outputs: a\.csv.*fileName.: .\*\.csv"
    ):
        read(FlowDriver([[listed]]), "*.csv")


def test_an_interrupted_download_leaves_nothing_of_its_first_part() -> None:
    driver = FlowDriver([[with_outputs("a.csv")]], files=[TransportError("broke off"), b"two"])

    assert read(driver, "a.csv") == b"two"


def test_an_output_that_is_too_large_is_refused_before_the_download() -> None:
    driver = FlowDriver([[with_outputs("a.csv", size=101)]])

    with pytest.raises(
        OutputError, match=r"a\.csv: 101 bytes, more than max_bytes \(100\), in the execution"
    ):
        read(driver, "a.csv")
    assert driver.fetches == []


def test_an_output_of_unknown_size_is_limited_while_it_is_downloaded() -> None:
    driver = FlowDriver([[with_outputs("a.csv", size=None)]], files=[b"one"])

    read(driver, "a.csv")

    assert [it.limit for it in driver.fetches] == [100]


@pytest.mark.parametrize(("name", "max_bytes", "field"), [("", 1, "name"), ("a.csv", 0, "max_bytes")])
def test_no_name_and_no_room_are_refused(name: str, max_bytes: int, field: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        OutputSelection.parse_name(name, max_bytes)


@pytest.mark.parametrize(
    "name", ["values.json", "result.html", "result.log", "result.error.log", "result.csv"]
)
def test_what_to_configure_for_an_output_is_valid_in_losant(name: str) -> None:
    from jsonschema import validate

    outputs = [json.loads(output_configuration(name))]

    assert outputs[0]["fileName"] == name
    validate(outputs, published("schemas.json")["notebookPost"]["properties"]["outputs"])
