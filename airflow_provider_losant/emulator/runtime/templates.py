# SPDX-License-Identifier: Apache-2.0
"""Templates such as ``{{site}}`` in the inputs and outputs of a notebook."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.emulator.state.timestamps import iso

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.model import Notebook
    from airflow_provider_losant.emulator.state.timeline import Execution

# File names and ids are no HTML: a plain {{value}} must not be escaped.
_PLAIN = re.compile(r"(?<!\{)\{\{(?=[^{}#^/!>&=])")


def values(notebook: Notebook, execution: Execution) -> Mapping[str, Any]:
    """Gather what templates can name: the keys of the context, the notebook and the execution."""
    try:
        given = json.loads(execution.template_context or "{}")
    except ValueError:
        given = {}
    started = execution.queued_at if execution.started_at is None else execution.started_at
    return {
        **(given if isinstance(given, dict) else {}),
        "notebook": {"id": notebook.id, "name": notebook.name},
        "execution": {
            "id": execution.id,
            "runQueuedAt": iso(execution.queued_at),
            "runStartedAt": iso(started),
            "executionRelativeTo": iso(execution.relative_to),
        },
    }


def render(text: str, known: Mapping[str, Any]) -> str:
    """Fill in a template."""
    if "{{" not in text:
        return text
    import chevron

    return str(chevron.render(_PLAIN.sub("{{&", text), dict(known)))
