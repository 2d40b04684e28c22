# SPDX-License-Identifier: Apache-2.0
"""The button that leads from a task to its notebook in Losant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import BaseOperatorLink, XCom, push_from_triggerer

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class LosantNotebookLink(BaseOperatorLink):
    """
    Opens the notebook, on whose page Losant lists the execution.

    The address is pushed as XCom the moment the execution has an id, so the button is there while it runs.
    """

    name = "Open in Losant"

    @property
    def xcom_key(self) -> str:
        """Where the address is kept; Airflow 3's UI reads it from there by itself."""
        return "losant_notebook_link"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address that was pushed, or nothing when the task has not come that far."""
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    def push(self, context: Any, address: str) -> None:
        """Make the button work for this task instance."""
        context["ti"].xcom_push(key=self.xcom_key, value=address)

    async def apush(self, context: Any, address: str) -> None:
        """Make the button work for the task instance that a trigger waits for."""
        await push_from_triggerer(context["ti"], self.xcom_key, address)
