# SPDX-License-Identifier: Apache-2.0
"""A trigger for the journeys in which triggers fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent


class CrashingTrigger(LosantNotebookExecutionTrigger):
    """Raise at once, like a trigger whose code or environment is broken."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.{type(self).__name__}", super().serialize()[1]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        raise RuntimeError("the trigger's environment is broken")
        yield  # type: ignore[unreachable]  # makes this the generator that Airflow expects
