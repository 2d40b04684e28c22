# SPDX-License-Identifier: Apache-2.0
"""What OpenLineage was told while the demo ran: each event is a file."""

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
ENDINGS = ("COMPLETE", "FAIL", "ABORT")


def environment(folder: Path) -> dict[str, str]:
    """Make a folder, and return what makes Airflow's OpenLineage provider write into it."""
    folder.mkdir()
    transport = {"type": "file", "log_file_path": str(folder / "event")}
    return {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}


def endings(folder: Path) -> list[Event]:
    """Return how the executions of notebooks have ended, in the order in which it was told."""
    events = []
    for path in sorted(folder.glob("event*.json")):
        with suppress(json.JSONDecodeError):  # it is being written
            events.append(json.loads(path.read_text()))
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


def complaints(folder: Path, *, executions: Mapping[str, int]) -> list[str]:
    """
    Check that each execution was told of; a task does so only after it has told Airflow that it has ended.

    :param executions: How many executions each notebook should have had, by notebook id.
    """

    def told() -> dict[str, int]:
        runs = {(it["job"]["name"].rpartition("/")[2], it["run"]["runId"]) for it in endings(folder)}
        return dict(Counter(notebook_id for notebook_id, _ in runs))

    with suppress(TimeoutError):
        wait_for(lambda: told() == executions, what="lineage to be told", timeout=20)
    return [] if told() == executions else [f"lineage: told of {told()}, not of {dict(executions)}"]
