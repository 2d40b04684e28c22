# SPDX-License-Identifier: Apache-2.0
"""Questions that Losant's documentation leaves open; each answer determines a switch of the emulator."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.contract.losant_under_test import NOTEBOOK

if TYPE_CHECKING:
    from tests.contract.losant_under_test import LosantUnderTest

STILL_OPEN = (
    "What is the response when the run minutes are used up, or too many notebooks run at once?",
    "How long are executions kept in the log?",
    "What is posted to a callbackUrl, after which endings, and how often?",
    "How large may an uploaded file be?",
    "Is there a URL of a single execution in the web interface?",
)


def answer_questions(tested: LosantUnderTest) -> dict[str, str]:
    """Answer every question that can be answered with a token within a few seconds."""
    notebook = tested.notebook(queue=1, ending="hang")
    tested.call("POST", f"/{notebook}/upload", files={"jupyterFile": ("test.ipynb", NOTEBOOK)})
    first_address = tested.call("GET", f"/{notebook}").json().get("jupyterFileUrl")
    tested.pause(1.1)
    second_address = tested.call("GET", f"/{notebook}").json().get("jupyterFileUrl")
    signed_again = "no" if first_address == second_address else "yes"
    return {
        "How is a request without a token refused?": _describe(tested.call("GET", authorized=False)),
        "How many notebooks does one page hold at most?": _page(tested),
        "Is a log of 1,000 entries refused?": _describe(tested.call("GET", f"/{notebook}/logs?limit=1000")),
        "Is the URL of a file signed again for each response?": signed_again,
        **_of_executions(tested, notebook),
        "How is a second export within 15 minutes refused?": _export(tested, notebook),
    }


def _of_executions(tested: LosantUnderTest, notebook: str) -> dict[str, str]:
    execution = tested.execution(notebook)
    cancel = f"/{notebook}/cancelExecution?executionId={execution}"
    since = _since(tested, notebook)
    first = _describe(tested.call("POST", cancel))
    tested.pause(1)
    return {
        "Is `since` compared with the time of queueing, and inclusive?": since,
        "Can an execution be cancelled right after it was queued?": first,
        "What is the response to cancelling an ended execution?": _describe(tested.call("POST", cancel)),
    }


def _since(tested: LosantUnderTest, notebook: str) -> str:
    (entry,) = tested.call("GET", f"/{notebook}/logs?limit=1").json()
    queued = round(datetime.fromisoformat(entry["runQueuedAt"]).timestamp() * 1000)
    shown = [
        len(tested.call("GET", f"/{notebook}/logs?limit=1&since={queued + more}").json()) for more in (0, 1)
    ]
    answers = {(1, 0): "yes", (0, 0): "not inclusive, or a later time", (1, 1): "a later time"}
    return answers.get((shown[0], shown[1]), "unclear")


def _page(tested: LosantUnderTest) -> str:
    response = tested.call("GET", "?perPage=1000")
    return str(response.json().get("perPage")) if response.ok else _describe(response)


def _export(tested: LosantUnderTest, notebook: str) -> str:
    tested.call("POST", f"/{notebook}/requestInputDataExport", json={})
    response = tested.call("POST", f"/{notebook}/requestInputDataExport", json={})
    return f"{_describe(response)}, Retry-After {response.headers.get('Retry-After', 'absent')}"


def _describe(response: Any) -> str:
    if response.ok:
        return f"{response.status_code}"
    try:
        return f"{response.status_code} {response.json().get('type')}"
    except ValueError:
        return f"{response.status_code}, not JSON"
