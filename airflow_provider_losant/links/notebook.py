# SPDX-License-Identifier: Apache-2.0
"""The link from a task instance to its notebook in Losant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import (
    BaseOperatorLink,
    XCom,
    links_bypass_xcom_backend,
    push_from_triggerer,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class LosantNotebookLink(BaseOperatorLink):
    """
    Opens the notebook's page in Losant, which lists the execution.

    The URL is pushed as an XCom when the execution's id is known, so the link works while the task runs, with
    any XCom backend.
    """

    name = "Open in Losant"

    @property
    def xcom_key(self) -> str:
        """The XCom key of the URL, which Airflow 3's UI reads."""
        return "losant_notebook_link"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty if the task has not pushed it yet."""
        if links_bypass_xcom_backend():
            return XCom._get_xcom_db_ref(key=self.xcom_key, **_ids(ti_key)).value or ""  # noqa: SLF001 - see below
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    def push(self, context: Any, address: str) -> None:
        """Push the URL of this task instance."""
        if links_bypass_xcom_backend():
            self._push_to_database(context["ti"], address)
        else:
            context["ti"].xcom_push(key=self.xcom_key, value=address)

    async def apush(self, context: Any, address: str) -> None:
        """Push the URL in the triggerer, for a task that started there."""
        if links_bypass_xcom_backend():
            from asgiref.sync import sync_to_async

            await sync_to_async(self._push_to_database)(context["ti"], address)
        else:
            await push_from_triggerer(context["ti"], self.xcom_key, address)

    def _push_to_database(self, task_instance: Any, address: str) -> None:
        # There is no public way to do what Airflow's own code does for every link at the end of a task.
        XCom._set_xcom_in_db(key=self.xcom_key, value=address, **_ids(task_instance))  # noqa: SLF001 - as above


def _ids(task_instance: Any) -> dict[str, Any]:
    return {name: getattr(task_instance, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
