# SPDX-License-Identifier: Apache-2.0
"""Links from a task instance, and that to its notebook in Losant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_losant._compat import (
    BaseOperatorLink,
    XCom,
    links_bypass_xcom_backend,
    push_from_triggerer,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class XComLink(BaseOperatorLink):
    """A link whose URL is an XCom that the task pushes itself, so that it works with any XCom backend."""

    key: ClassVar[str]
    """The XCom key of the URL."""

    @property
    def xcom_key(self) -> str:
        """The XCom key of the URL, which Airflow 3's UI reads."""
        return self.key

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty if the task has not pushed it yet."""
        if links_bypass_xcom_backend():
            return XCom._get_xcom_db_ref(key=self.xcom_key, **_ids(ti_key)).value or ""  # noqa: SLF001 - see below
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    def push(self, context: Any, address: str) -> None:
        """Push the URL of this task instance."""
        push_past_backend(context["ti"], self.xcom_key, address)

    async def apush(self, context: Any, address: str) -> None:
        """Push the URL in the triggerer, for a task that started there."""
        if links_bypass_xcom_backend():
            from asgiref.sync import sync_to_async

            await sync_to_async(push_past_backend)(context["ti"], self.xcom_key, address)
        else:
            await push_from_triggerer(context["ti"], self.xcom_key, address)


class LosantNotebookLink(XComLink):
    """
    Opens the notebook's page in Losant, which lists the execution.

    The URL is pushed as an XCom when the execution's id is known, so the link works while the task runs, with
    any XCom backend.
    """

    name = "Open in Losant"
    key = "losant_notebook_link"


def push_past_backend(task_instance: Any, key: str, value: Any) -> None:
    """Push an XCom that the web server reads, which need not know the XCom backend."""
    if links_bypass_xcom_backend():
        # There is no public way to do what Airflow's own code does for every link at the end of a task.
        XCom._set_xcom_in_db(key=key, value=value, **_ids(task_instance))  # noqa: SLF001 - as above
    else:
        task_instance.xcom_push(key=key, value=value)


def _ids(task_instance: Any) -> dict[str, Any]:
    return {name: getattr(task_instance, name) for name in ("dag_id", "task_id", "run_id", "map_index")}
