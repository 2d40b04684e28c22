# SPDX-License-Identifier: Apache-2.0
"""The OpenLineage events of the demo, each in a file."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.support.processes import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Event = dict[str, Any]
FINAL_STATES = ("COMPLETE", "FAIL", "ABORT")


def environment(folder: Path) -> dict[str, str]:
    """Make a folder, and return the settings with which OpenLineage events are written into it."""
    folder.mkdir()
    transport = {"type": "file", "log_file_path": str(folder / "event")}
    return {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}


def final_events(folder: Path) -> list[Event]:
    """Return the final events of executions, in the order in which they were emitted."""
    events = []
    for path in sorted(folder.glob("event*.json")):
        with suppress(json.JSONDecodeError):  # it is being written
            events.append(json.loads(path.read_text()))
    return [
        it
        for it in events
        if it["job"]["namespace"].startswith("losant://") and it["eventType"] in FINAL_STATES
    ]


def show(events: list[Event]) -> None:
    """Print what each execution has read and written."""
    print("\nLineage")
    for event in events:
        facets = event["run"]["facets"]
        print(f"  {event['job']['facets']['documentation']['description'].splitlines()[0]}")
        if "parent" in facets:
            print(f"    for     {facets['parent']['job']['name']}")
        for verb, datasets in (("read", event["inputs"]), ("wrote", event["outputs"])):
            for dataset in datasets:
                print(f"    {verb:7} {dataset['namespace']}/{dataset['name']}")


def problems(folder: Path, *, executions: Mapping[str, int]) -> list[str]:
    """
    Check that each execution has a final event. A task emits it after it has reported its end to Airflow.

    :param executions: How many executions each notebook should have had, by notebook id.
    """

    def emitted() -> dict[str, int]:
        runs = {(it["job"]["name"].rpartition("/")[2], it["run"]["runId"]) for it in final_events(folder)}
        return dict(Counter(notebook_id for notebook_id, _ in runs))

    with suppress(TimeoutError):
        wait_for(lambda: emitted() == executions, what="the lineage events", timeout=20)
    return [] if emitted() == executions else [f"lineage: events of {emitted()}, not of {dict(executions)}"]
