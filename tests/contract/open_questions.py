# SPDX-License-Identifier: Apache-2.0
"""What Losant does not document, put to a Losant; each answer settles a switch of the emulator."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.contract.losant_under_test import NOTEBOOK

if TYPE_CHECKING:
    from tests.contract.losant_under_test import Place

UNASKED = (
    "What is the answer when the run minutes are used up, or too many notebooks run at once?",
    "How long are executions kept in the log?",
    "What is posted to a callbackUrl, after which endings, and how often?",
    "How large may an uploaded file be?",
    "Is there an address of a single execution in the web interface?",
)


def ask(place: Place) -> dict[str, str]:
    """Put every question that a token and a few seconds can answer."""
    notebook = place.notebook(queue=1, ending="hang")
    place.call("POST", f"/{notebook}/upload", files={"jupyterFile": ("test.ipynb", NOTEBOOK)})
    first_address = place.call("GET", f"/{notebook}").json().get("jupyterFileUrl")
    place.pause(1.1)
    second_address = place.call("GET", f"/{notebook}").json().get("jupyterFileUrl")
    again = "no" if first_address == second_address else "yes"
    return {
        "How is a request without a token refused?": _told(place.call("GET", authorized=False)),
        "How many notebooks does one page hold at the most?": _page(place),
        "Is a log of 1,000 entries refused?": _told(place.call("GET", f"/{notebook}/logs?limit=1000")),
        "Is the address of a file signed anew at each look?": again,
        **_of_executions(place, notebook),
        "How is a second export within 15 minutes refused?": _export(place, notebook),
    }


def _of_executions(place: Place, notebook: str) -> dict[str, str]:
    execution = place.execution(notebook)
    cancel = f"/{notebook}/cancelExecution?executionId={execution}"
    since = _since(place, notebook)
    first = _told(place.call("POST", cancel))
    place.pause(1)
    return {
        "Is `since` compared with the instant of queueing, and inclusive?": since,
        "Can an execution be cancelled that has only just been queued?": first,
        "How is cancelling an execution answered that has ended?": _told(place.call("POST", cancel)),
    }


def _since(place: Place, notebook: str) -> str:
    (entry,) = place.call("GET", f"/{notebook}/logs?limit=1").json()
    queued = round(datetime.fromisoformat(entry["runQueuedAt"]).timestamp() * 1000)
    shown = [
        len(place.call("GET", f"/{notebook}/logs?limit=1&since={queued + more}").json()) for more in (0, 1)
    ]
    told = {(1, 0): "yes", (0, 0): "not inclusive, or a later instant", (1, 1): "a later instant"}
    return told.get((shown[0], shown[1]), "unclear")


def _page(place: Place) -> str:
    answer = place.call("GET", "?perPage=1000")
    return str(answer.json().get("perPage")) if answer.ok else _told(answer)


def _export(place: Place, notebook: str) -> str:
    place.call("POST", f"/{notebook}/requestInputDataExport", json={})
    answer = place.call("POST", f"/{notebook}/requestInputDataExport", json={})
    return f"{_told(answer)}, Retry-After {answer.headers.get('Retry-After', 'absent')}"


def _told(answer: Any) -> str:
    if answer.ok:
        return f"{answer.status_code}"
    try:
        return f"{answer.status_code} {answer.json().get('type')}"
    except ValueError:
        return f"{answer.status_code}, not JSON"
