# SPDX-License-Identifier: Apache-2.0
"""What OpenLineage was told while the demo ran: each event is a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Event = dict[str, Any]
ENDINGS = ("COMPLETE", "FAIL", "ABORT")


def environment(folder: Path) -> dict[str, str]:
    """Make a folder, and return what makes Airflow's OpenLineage provider write into it."""
    folder.mkdir()
    transport = {"type": "file", "log_file_path": str(folder / "event")}
    return {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}


def endings(folder: Path) -> list[Event]:
    """Return how the executions of notebooks have ended, in the order in which it was told."""
    events = [json.loads(path.read_text()) for path in sorted(folder.glob("event*.json"))]
    return [
        it for it in events if it["job"]["namespace"].startswith("losant://") and it["eventType"] in ENDINGS
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


def complaints(events: list[Event], *, executions: Mapping[str, int]) -> list[str]:
    """
    Check that each execution was told of.

    :param executions: How many executions each notebook should have had, by notebook id.
    """
    told = {
        notebook_id: len({it["run"]["runId"] for it in events if it["job"]["name"].endswith(notebook_id)})
        for notebook_id in executions
    }
    return [] if told == executions else [f"lineage: told of {told}, not of {dict(executions)}"]
