# SPDX-License-Identifier: Apache-2.0
"""The link from a task instance to its notebook in Losant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import BaseOperatorLink, XCom, push_from_triggerer

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class LosantNotebookLink(BaseOperatorLink):
    """
    Opens the notebook's page in Losant, which lists the execution.

    The URL is pushed as an XCom when the execution's id is known, so the link works while the task runs.
    """

    name = "Open in Losant"

    @property
    def xcom_key(self) -> str:
        """The XCom key of the URL, which Airflow 3's UI reads."""
        return "losant_notebook_link"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty if the task has not pushed it yet."""
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    def push(self, context: Any, address: str) -> None:
        """Push the URL of this task instance."""
        context["ti"].xcom_push(key=self.xcom_key, value=address)

    async def apush(self, context: Any, address: str) -> None:
        """Push the URL in the triggerer, for a task that started there."""
        await push_from_triggerer(context["ti"], self.xcom_key, address)
