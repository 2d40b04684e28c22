# SPDX-License-Identifier: Apache-2.0
"""Losant's own client works with the emulator."""

from __future__ import annotations

from typing import Any

import pytest
from losant_rest import Client as OfficialClient  # type: ignore[import-untyped]
from losant_rest import LosantError

from airflow_provider_losant.emulator import Emulator, Script


@pytest.fixture
def official(losant: Emulator) -> Any:
    return OfficialClient(auth_token=losant.token, url=losant.url)


def test_the_official_client_can_call_every_operation(official: Any, losant: Emulator) -> None:
    application = {"applicationId": losant.application_id}
    created = official.notebooks.post(**application, notebook={"name": "Energy"})
    ids = {**application, "notebookId": created["id"]}
    losant.script(created["id"], Script(notebook=0))

    started = official.notebook.execute(**ids, executionOptions={"relativeTo": 0, "templateContext": "{}"})
    (entry,) = official.notebook.logs(**ids, limit=5, since=0)
    exported = official.notebook.request_input_data_export(**ids, exportOptions={})
    counts = official.notebook.notebook_minute_counts(**ids)
    changed = official.notebook.patch(**ids, notebook={"description": "Daily"})
    listed = official.notebooks.get(**application)

    assert (entry["notebookExecutionId"], entry["status"]) == (started["executionId"], "completed")
    assert exported["jobQueued"] is True
    assert sum(day["completed"] for day in counts["counts"]) == 1
    assert listed["items"][0]["description"] == changed["description"] == "Daily"
    assert official.application.get(**application)["name"] == "Local application"
    assert official.notebook.delete(**ids) == {"success": True}


def test_the_official_client_parses_error_responses(official: Any, losant: Emulator) -> None:
    ids = {"applicationId": losant.application_id, "notebookId": losant.add_notebook()}

    with pytest.raises(LosantError) as unknown:
        official.notebook.cancel_execution(**ids, executionId="f" * 24)
    with pytest.raises(LosantError) as empty:
        official.notebook.execute(**ids)

    assert (unknown.value.status, unknown.value.data["type"]) == (404, "NotFound")
    assert (empty.value.status, empty.value.data["message"]) == (400, "executionOptions is required")
