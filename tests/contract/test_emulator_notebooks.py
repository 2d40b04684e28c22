# SPDX-License-Identifier: Apache-2.0
"""Notebooks of the kinds that Losant's users write, in real kernels: aggregation, anomalies, export."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.contract.api_client import ApiClient

pytestmark = pytest.mark.kernel

NOTEBOOKS = Path(__file__).with_name("notebooks")
MIDNIGHT = 1_769_904_000_000  # 2026-02-01T00:00:00Z, a Sunday
HOUR = 3_600_000
WEEK = 7 * 24
READINGS, ANOMALIES = "5c9e2e4eab635b000620d17d", "5c9e2e4eab635b000620d17e"
HTML = {"outputType": "executionResult", "fileName": "result.html"}


def temporary(*names: str) -> list[dict[str, Any]]:
    return [{"outputType": "temporaryUrl", "fileName": name} for name in names]


def run(client: ApiClient, notebook_id: str, **context: Any) -> dict[str, Any]:
    """Run a notebook for midnight; returns its log entry."""
    client.execute(notebook_id, relativeTo=MIDNIGHT, templateContext=json.dumps(context))
    # A kernel that draws takes its time on a busy machine.
    return client.wait(notebook_id, timeout=120)


def rows(client: ApiClient, entry: dict[str, Any], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(client.file(entry, name).splitlines()))


def test_device_data_is_aggregated_and_plotted(losant: Emulator, client: ApiClient, tmp_path: Path) -> None:
    sample = tmp_path / "motion.csv"
    lines = [
        # 14:00 in New York is 19:00 in UTC in winter.
        f"{MIDNIGHT - hours * HOUR},{room},{9 if (24 - hours) % 24 == 19 else 1},55"
        for hours in range(WEEK + 5, -1, -1)
        for room in ("front", "back")
    ]
    sample.write_text("\n".join(["Timestamp,room,motion,humidity", *lines, ""]))
    motion = {
        "inputType": "deviceData",
        "fileName": "room-motion.csv",
        "queryJson": '{"tags": {"room": "{{room}}"}}',
        "attributes": ["motion"],
        "start": -WEEK * HOUR,
        "end": 0,
    }
    notebook_id = losant.add_notebook(
        file=NOTEBOOKS / "room-motion.ipynb",
        inputs=[motion],
        outputs=[
            HTML,
            {"outputType": "executionResult", "fileName": "result.log"},
            *temporary("motion-by-day.csv", "busiest-hours.csv", "motion-by-day.png"),
        ],
        samples={"room-motion.csv": sample},
    )

    entry = run(client, notebook_id, room="front")

    assert (entry["status"], entry["executionErrors"]) == ("completed", [])
    by_day = {row["day"]: int(row["motion"]) for row in rows(client, entry, "motion-by-day.csv")}
    assert by_day == {"2026-01-24": 5, **{f"2026-01-{day}": 32 for day in range(25, 31)}, "2026-01-31": 27}
    busiest = rows(client, entry, "busiest-hours.csv")
    assert {row["hour"].split(" at ")[1] for row in busiest if row["motion"] == "9"} == {"14"}
    assert len(busiest) == WEEK
    assert client.file(entry, "result.log").startswith("Busiest: ")
    plot = client.session.get(entry["outputInfo"]["motion-by-day.png"]["url"], timeout=10)
    assert (plot.headers["Content-Type"], plot.content[:4]) == ("image/png", b"\x89PNG")
    page = client.file(entry, "result.html")
    assert "When is a room in use?" in page
    assert "data:image/png;base64," in page
    assert "room-motion.csv" in page


def test_a_table_that_one_notebook_fills_is_an_input_of_the_next(
    losant: Emulator, client: ApiClient, tmp_path: Path
) -> None:
    (tmp_path / "readings.csv").write_text(
        "pump,bar,isRunning\n"
        + "".join(f"{pump},{5 + number % 2},true\n" for pump in ("P1", "P2") for number in range(20))
        + "P1,30,true\nP2,90,false\nP2,,true\n"
    )
    (tmp_path / "events.json").write_text(
        json.dumps(
            [
                {"level": "critical", "state": "new", "subject": "P1", "eventTags": {"site": "north"}},
                {"level": "critical", "state": "resolved", "subject": "P1", "eventTags": {"site": "north"}},
                {"level": "info", "state": "new", "subject": "P2", "eventTags": {"site": "south"}},
            ]
        )
    )
    anomalies = losant.add_notebook(
        file=NOTEBOOKS / "pump-anomalies.ipynb",
        inputs=[
            {
                "inputType": "dataTable",
                "fileName": "pump-readings.csv",
                "dataTableId": READINGS,
                "queryJson": '{"isRunning": true, "bar": {"$ne": null}}',
            }
        ],
        outputs=[
            {
                "outputType": "dataTable",
                "fileName": "anomalies.csv",
                "dataTableId": "{{table}}",
                "truncateExistingTable": True,
            },
            *temporary("values.json"),
        ],
        samples={"pump-readings.csv": tmp_path / "readings.csv"},
    )
    export = losant.add_notebook(
        file=NOTEBOOKS / "alarm-export.ipynb",
        inputs=[
            {
                "inputType": "eventData",
                "fileName": "events.json",
                "format": "json",
                "queryJson": '{"level": "critical", "state": {"$nin": ["resolved"]}}',
            },
            {"inputType": "dataTable", "fileName": "anomalies.csv", "dataTableId": ANOMALIES},
        ],
        outputs=[
            {"outputType": "executionResult", "fileName": "result.pdf"},
            {
                "outputType": "directory",
                "directoryName": "sites",
                "destinationDirectoryTemplate": "alarms/{{day}}",
            },
            *temporary("alarms.json"),
        ],
        samples={"events.json": tmp_path / "events.json"},
    )

    found = run(client, anomalies, limit=3, table=ANOMALIES)
    exported = run(client, export, day="2026-02-01")

    assert (found["status"], found["executionErrors"]) == ("completed", [])
    values = json.loads(client.file(found, "values.json"))
    assert values == {"readings": 41, "anomalies": 1, "pumps": ["P1"]}
    assert exported["status"] == "completed"
    assert exported["executionErrors"] == [
        {"name": "PdfNotProduced", "message": "The emulator does not produce result.pdf; use result.html."}
    ]
    assert exported["outputInfo"].keys() == {"alarms.json", "sites/north.json"}
    assert json.loads(client.file(exported, "alarms.json")) == {"north": [{"pump": "P1", "bar": ["30"]}]}
    published = losant.backend.folder / "application_files" / losant.application_id / "alarms" / "2026-02-01"
    assert [path.name for path in published.iterdir()] == ["north.json"]
