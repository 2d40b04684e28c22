# SPDX-License-Identifier: Apache-2.0
"""Renders templates such as ``{{site}}`` in the inputs and outputs of a notebook."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.emulator.state.timestamps import format_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.model import Notebook
    from airflow_provider_losant.emulator.state.timeline import Execution

# File names and ids are not HTML, so a plain {{value}} must not be escaped.
_ESCAPED_VALUE = re.compile(r"(?<!\{)\{\{(?=[^{}#^/!>&=])")


def template_values(notebook: Notebook, execution: Execution) -> Mapping[str, Any]:
    """Return the values for templates: the template context, the notebook and the execution."""
    try:
        context = json.loads(execution.template_context or "{}")
    except ValueError:
        context = {}
    started = execution.queued_at if execution.started_at is None else execution.started_at
    return {
        **(context if isinstance(context, dict) else {}),
        "notebook": {"id": notebook.id, "name": notebook.name},
        "execution": {
            "id": execution.id,
            "runQueuedAt": format_timestamp(execution.queued_at),
            "runStartedAt": format_timestamp(started),
            "executionRelativeTo": format_timestamp(execution.relative_to),
        },
    }


def render(template: str, values: Mapping[str, Any]) -> str:
    """Render a template; a text without ``{{`` is returned as it is."""
    if "{{" not in template:
        return template
    import chevron

    return str(chevron.render(_ESCAPED_VALUE.sub("{{&", template), dict(values)))
