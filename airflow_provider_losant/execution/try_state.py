# SPDX-License-Identifier: Apache-2.0
"""What a try of a task passes on to itself across a deferral, as XComs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import retry_repeats_resumption

if TYPE_CHECKING:
    from airflow_provider_losant._compat import BaseOperator, Context

EXECUTION_KEY = "execution_id"
STATE_KEY = "losant_try"
TRY_NUMBER = "try_number"


def pull_own_xcom(task: BaseOperator, context: Context, key: str) -> Any:
    """Return what this try pushed before it was deferred; Airflow clears it when a new try starts."""
    ti = context["ti"]
    return ti.xcom_pull(task_ids=task.task_id, key=key, map_indexes=ti.map_index)


class TryState:
    """
    Named values of one try, in one XCom.

    XComs rather than arguments of the method that resumes the task, because ``dag.test()`` does not pass
    those on.

    :param is_resumed: The try was deferred before. Otherwise it has set nothing yet.
    """

    def __init__(self, task: BaseOperator, context: Context, *, is_resumed: bool) -> None:
        self._task = task
        self._ti = context["ti"]
        self._context = context
        self._is_resumed = is_resumed

    @property
    def values(self) -> Mapping[str, Any]:
        """What this try has set, also before its deferral."""
        return self._xcom if self._xcom.get(TRY_NUMBER) == self._ti.try_number else {}

    @property
    def is_of_earlier_try(self) -> bool:
        """Whether Airflow resumes an earlier try, although this one has not been deferred."""
        return bool(self._xcom.get(TRY_NUMBER, self._ti.try_number) != self._ti.try_number)

    def set(self, **values: Any) -> None:
        """Set values, and keep the others."""
        self._xcom = {**self.values, TRY_NUMBER: self._ti.try_number, **values}
        self._ti.xcom_push(key=STATE_KEY, value=self._xcom)

    def prepare_deferral(self) -> None:
        """Note which try is deferred, where a later one may begin as its resumption."""
        if retry_repeats_resumption():  # before Airflow 3.1
            self.set()

    @cached_property
    def _xcom(self) -> dict[str, Any]:
        if not self._is_resumed:
            return {}  # Airflow warns in the task's log when an XCom is pulled that does not exist
        return pull_own_xcom(self._task, self._context, STATE_KEY) or {}
