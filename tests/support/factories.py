# SPDX-License-Identifier: Apache-2.0
"""Log entries for tests, and Losant's published descriptions of its API where they are available."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import settings

from airflow_provider_losant.api.flows.ownership import Owner
from airflow_provider_losant.api.model import Execution, ExecutionRef
from airflow_provider_losant.emulator import Script
from tests.support.paths import ROOT

PUBLISHED = ROOT.parent / "shared" / "losant-api"
APPLICATION_ID = "575ec8687ae143cd83dc4a97"
NOTEBOOK_ID = "5c782b8d4f3a8e51c1db42e4"
EXECUTION_ID = "65a0f1d0d32c87a49f04c260"
CREATED_AT = float(int(EXECUTION_ID[:8], 16))
"""Epoch seconds at which the execution was created, which its id contains."""
few_examples = settings(max_examples=40, deadline=None)
"""Few examples for each property, without a deadline for slow machines."""
BRIEF = Script(notebook=0.03, files={"result.html": b"<p>42</p>", "out.csv": b"site,kwh\nnorth,42\n"})
"""An execution that takes 30 ms."""
REF = ExecutionRef(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, execution_id=EXECUTION_ID)


def published(name: str) -> Any:
    """Read one of Losant's descriptions of its API; they are not part of the repository."""
    file = PUBLISHED / name
    if not file.exists():
        pytest.skip(f"Losant's {name} is not available")
    return json.loads(file.read_text())


def iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def owner(**changes: Any) -> Owner:
    """Return the owner of what the first of four tries of a task submits."""
    usual = Owner(
        dag_id="dag",
        task_id="task",
        run_id="run",
        map_index=-1,
        try_number=1,
        max_tries=3,
        dag_run_start="2026-01-01T00:00:00+00:00",
        deployment="https://airflow.example",
        may_sweep=True,
    )
    return replace(usual, **changes)


def entry(status: str = "inProgress", execution_id: str = EXECUTION_ID, **more: Any) -> dict[str, Any]:
    """Return an entry of a notebook's execution log."""
    return {
        "id": execution_id,
        "notebookExecutionId": execution_id,
        "notebookId": NOTEBOOK_ID,
        "applicationId": APPLICATION_ID,
        "status": status,
        "runQueuedAt": iso(int(execution_id[:8], 16)),
        "inputInfo": {},
        "outputInfo": {},
        "executionErrors": [],
        **more,
    }


def execution(status: str = "inProgress", execution_id: str = EXECUTION_ID, **more: Any) -> Execution:
    return Execution.from_api(entry(status, execution_id, **more))


def execution_id_at(seconds: int) -> str:
    """Return the id of an execution that was created so many seconds after :data:`EXECUTION_ID`."""
    return f"{int(CREATED_AT) + seconds:08x}{seconds % 2**64:016x}"
