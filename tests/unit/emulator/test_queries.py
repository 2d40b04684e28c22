# SPDX-License-Identifier: Apache-2.0
"""The queries of inputs, evaluated on samples."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.emulator.runtime.inputs import InputError, prepare_inputs
from tests.unit.emulator.test_files import EXECUTION, LAST_HOUR, MIDNIGHT, NORTH, NOTEBOOK, SOUTH

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.model import Notebook
    from airflow_provider_losant.emulator.state.timeline import Execution

PUMPS = """pump,site,hours,isRunning,servicedAt,note
P1,north,120,true,2026-01-10T00:00:00.000Z,
P2,north,7.5,false,2026-01-20T00:00:00.000Z,Leak fixed
P3,South,2000,true,,leak
"""
EVENTS = [
    {"id": "1", "level": "critical", "state": "new", "eventTags": {"site": "north", "line": "2"}, "count": 3},
    {"id": "2", "level": "info", "state": "resolved", "eventTags": {"site": "south"}, "count": None},
    {"id": "3", "level": "critical", "state": "acknowledged"},
]
DEVICES = f"""Timestamp,Device ID,Device Name,site,floor,kwh
{MIDNIGHT - 60:.0f}000,{NORTH},Meter north,north,1,4
{MIDNIGHT - 60:.0f}000,{SOUTH},Meter south,south,,5
{MIDNIGHT - 7200:.0f}000,{NORTH},Meter north,north,1,6
"""


def prepared(
    folder: Path, config: dict[str, Any], sample: str, query: Any, execution: Execution = EXECUTION
) -> str:
    """Prepare an input with a query; returns the text of the file."""
    source = folder / f"sample.{config['fileName'].rpartition('.')[2]}"
    source.write_text(sample)
    text = query if isinstance(query, str) else json.dumps(query)
    notebook: Notebook = replace(
        NOTEBOOK, inputs=[{**config, "queryJson": text}], samples={config["fileName"]: source}
    )
    prepare_inputs(notebook, execution, folder / "in", folder / "tables")
    prepared_file: Path = folder / "in" / config["fileName"]
    return prepared_file.read_text()


TABLE = {"inputType": "dataTable", "fileName": "pumps.csv", "dataTableId": NORTH}
EVENT_DATA = {"inputType": "eventData", "fileName": "events.json", "format": "json"}
DEVICE_DATA = {**LAST_HOUR, "fileName": "devices.csv"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "P1 P2 P3"),
        ("{}", "P1 P2 P3"),
        ({"site": "north"}, "P1 P2"),
        ({"site": {"$eq": "south"}}, ""),
        ({"site": {"$eq": "south", "$ci": True}}, "P3"),
        ({"site": {"$ne": "north"}}, "P3"),
        ({"site": {"$in": ["north", "west"]}}, "P1 P2"),
        ({"site": {"$nin": ["north", "west"]}}, "P3"),
        ({"hours": 120}, "P1"),
        ({"hours": {"$gt": 7.5, "$lte": 2000}}, "P1 P3"),
        ({"hours": {"$gte": 7.5, "$lt": 120}}, "P2"),
        ({"hours": {"$in": [120, 2000]}}, "P1 P3"),
        ({"hours": "120"}, "P1"),
        ({"note": {"$gt": 5}}, ""),
        ({"note": {"$gt": None}}, ""),
        ({"isRunning": True}, "P1 P3"),
        ({"isRunning": {"$ne": True}}, "P2"),
        ({"note": None}, "P1"),
        ({"servicedAt": {"$ne": None}}, "P1 P2"),
        ({"servicedAt": {"$lt": 1_768_435_200_000}}, "P1"),  # 2026-01-15
        ({"servicedAt": {"$gte": "2026-01-15"}}, "P2"),
        ({"note": {"$contains": "eak"}}, "P2 P3"),
        ({"note": {"$startsWith": "leak"}}, "P3"),
        ({"note": {"$startsWith": "LEAK", "$ci": True}}, "P2 P3"),
        ({"note": {"$endsWith": "fixed"}}, "P2"),
        ({"site": "north", "hours": {"$gt": 100}}, "P1"),
        ({"$and": [{"site": "north"}, {"isRunning": False}]}, "P2"),
        ({"$or": [{"site": "South"}, {"$and": [{"hours": {"$lt": 10}}]}]}, "P2 P3"),
        ({"$nor": [{"site": "South"}, {"hours": {"$lt": 10}}]}, "P1"),
        ('{"site": "{{site}}"}', "P1 P2"),
    ],
    ids=str,
)
def test_the_rows_of_a_table_are_those_that_match_the_query(
    tmp_path: Path, query: Any, expected: str
) -> None:
    rows = list(csv.DictReader(prepared(tmp_path, TABLE, PUMPS, query).splitlines()))

    assert " ".join(row["pump"] for row in rows) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["1", "2", "3"]),
        ({"level": "critical", "state": {"$ne": "acknowledged"}}, ["1"]),
        ({"eventTags": {"site": "south"}}, ["2"]),
        ({"eventTags": {"site": {"$in": ["north", "south"]}}}, ["1", "2"]),
        ({"eventTags": {"$ne": {"site": "south"}}}, ["1", "3"]),
        ({"eventTags": {"$eq": {"$tagKey": "line"}}}, ["1"]),
        ({"eventTags": {"$tagKey": "site", "$tagValue": "north"}}, ["1"]),
        ({"eventTags": {"$tagKey": "site", "$tagValue": "2"}}, []),
        ({"eventTags": {"$tagValue": {"$in": ["2", "south"]}}}, ["1", "2"]),
        ({"eventTags": {"line": None}}, ["2", "3"]),
        ({"eventTags": None}, ["3"]),
        ({"count": {"$gte": 3}}, ["1"]),
        ({"count": None}, ["2", "3"]),
    ],
    ids=str,
)
def test_events_are_those_that_match_the_query(tmp_path: Path, query: Any, expected: list[str]) -> None:
    events = json.loads(prepared(tmp_path, EVENT_DATA, json.dumps(EVENTS), query))

    assert [event["id"] for event in events] == expected
    assert all(event in EVENTS for event in events)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"id": NORTH}, ["4"]),
        ({"name": {"$endsWith": "south"}}, ["5"]),
        ({"tags": {"site": "south"}}, ["5"]),
        ({"tags": {"floor": None}}, ["5"]),
        ({"tags": {"$tagKey": "floor"}}, ["4"]),
        ({"$or": [{"tags": {"site": "north"}}, {"id": SOUTH}]}, ["4", "5"]),
    ],
    ids=str,
)
def test_device_data_is_of_the_devices_that_match_the_query_and_of_the_time_range(
    tmp_path: Path, query: Any, expected: list[str]
) -> None:
    config = {**DEVICE_DATA, "attributes": ["kwh"]}
    rows = list(csv.DictReader(prepared(tmp_path, config, DEVICES, query).splitlines()))

    assert [row["kwh"] for row in rows] == expected
    assert "site" not in (rows[0] if rows else {})


def test_a_query_can_leave_no_rows_of_any_sample(tmp_path: Path) -> None:
    assert prepared(tmp_path, TABLE, PUMPS, {"site": "west"}).splitlines() == PUMPS.splitlines()[:1]
    assert prepared(tmp_path, EVENT_DATA, "[]", {"level": "info"}) == "[]"


@pytest.mark.parametrize(
    ("config", "sample", "query", "reason"),
    [
        (TABLE, PUMPS, "{", "it is not JSON after its templates were filled in"),
        (TABLE, PUMPS, "[1]", "a query is a JSON object"),
        (TABLE, PUMPS, {"pressure": 3}, "the sample has no column pressure"),
        (TABLE, PUMPS, {"site": {"$regex": "n.*"}}, r"unknown operator \$regex"),
        (TABLE, PUMPS, {"site": {"$in": "north"}}, r"\$in needs a list"),
        (TABLE, PUMPS, {"site": ["north"]}, r"\$eq needs a single value"),
        (TABLE, PUMPS, {"site": {"$contains": 3}}, r"\$contains needs a text"),
        (TABLE, PUMPS, {"$or": {"site": "north"}}, r"\$or needs a list"),
        (EVENT_DATA, "{}", {"level": "info"}, "neither a .csv file nor a JSON list of objects"),
        (EVENT_DATA, "{", {"level": "info"}, "neither a .csv file nor a JSON list of objects"),
        (EVENT_DATA, "[1]", {"level": "info"}, "neither a .csv file nor a JSON list of objects"),
        (EVENT_DATA, json.dumps(EVENTS), {"eventTags": "site"}, "eventTags needs an object"),
        (EVENT_DATA, json.dumps([{"eventTags": 1}]), {"eventTags": {"a": "b"}}, "eventTags is not an object"),
        (
            EVENT_DATA,
            json.dumps(EVENTS),
            {"eventTags": {"a": {"$startsWith": "b"}}},
            r"unknown operator \$startsWith",
        ),
        (DEVICE_DATA, DEVICES, {"deviceClass": "gateway"}, "the sample has no column deviceClass"),
        (DEVICE_DATA, DEVICES, {"tags": {"building": "4"}}, "the sample has no column building"),
        ({**DEVICE_DATA, "deviceIds": [NORTH]}, DEVICES, {"id": NORTH}, "does not combine it with deviceIds"),
    ],
)
def test_a_query_that_cannot_be_evaluated_is_reported_with_its_file_and_reason(
    tmp_path: Path, config: dict[str, Any], sample: str, query: Any, reason: str
) -> None:
    with pytest.raises(
        InputError, match=f"cannot evaluate the queryJson of {config['fileName']}: .*{reason}"
    ):
        prepared(tmp_path, config, sample, query)


def test_an_empty_query_leaves_the_choice_to_ids_and_tags(tmp_path: Path) -> None:
    config = {**DEVICE_DATA, "deviceTags": [{"key": "site", "value": "{{site}}"}]}

    assert len(prepared(tmp_path, config, DEVICES, "{ }").splitlines()) == 2
