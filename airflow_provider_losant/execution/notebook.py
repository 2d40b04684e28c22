# SPDX-License-Identifier: Apache-2.0
"""Find the notebook of a task by its name, once in each try, and keep its id across a deferral."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows.locate import Located, locate_notebook
from airflow_provider_losant.api.flows.notebooks import find_notebook
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
from airflow_provider_losant.exceptions import NotebookExecutionError
from airflow_provider_losant.execution.submission import load_notebook_id, save_notebook_id
from airflow_provider_losant.execution.try_state import pull_own_xcom
from airflow_provider_losant.hooks.target import NOTEBOOK_KEY

if TYPE_CHECKING:
    from airflow_provider_losant._compat import BaseOperator, Context
    from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
    from airflow_provider_losant.api.http.client import Client
    from airflow_provider_losant.execution.arguments import ExecuteArguments
    from airflow_provider_losant.execution.canceller import Canceller


class NotebookLookup:
    """
    Finds the notebook of one task in one process.

    :ivar notebook_id: Its id; empty as long as it is not known.
    """

    def __init__(
        self,
        task: BaseOperator,
        context: Context,
        arguments: ExecuteArguments,
        client: Client,
        canceller: Canceller,
    ) -> None:
        self._task = task
        self._context = context
        self._arguments = arguments
        self._client = client
        self._canceller = canceller
        self._former_id: str | None = None
        self.notebook_id = arguments.notebook_id

    def resume(self, *, is_of_earlier_try: bool) -> None:
        """
        Take the id that was found before the deferral, so that it needs no request.

        :param is_of_earlier_try: It was the deferral of an earlier try, so this one looks for itself.
        """
        if self.notebook_id:
            return
        found = pull_own_xcom(self._task, self._context, NOTEBOOK_KEY)
        if is_of_earlier_try:
            self._former_id = found
        else:  # None if the DAG had a notebook_id when the task was deferred
            self.notebook_id = found or self._find_again()

    def locate(self, submission: Submission, policy: SubmitPolicy, *, is_retry: bool) -> Located:
        """
        Find the notebook, and publish its id before anything is submitted to it.

        :raises LosantError: as :func:`~airflow_provider_losant.api.flows.locate.locate_notebook`.
        """
        if self.notebook_id:
            return Located(notebook_id=self.notebook_id)
        finder = ExecutionFinder(submission=submission, policy=policy)
        former_id = self._former_id or load_notebook_id(self._context)
        may_find = finder.in_notebook(former_id) if is_retry and former_id else None
        with self._canceller.interruptible(may_find):
            located = self._client.run(locate_notebook(finder, former_id=former_id, is_retry=is_retry))
        self.notebook_id = located.notebook_id
        self._context["ti"].xcom_push(key=NOTEBOOK_KEY, value=self.notebook_id)
        save_notebook_id(self._context, self.notebook_id, self._task.log.log)
        return located

    def _find_again(self) -> str:
        arguments, retries = self._arguments, self._client.settings.max_retries
        flow = find_notebook(arguments.application_id, arguments.notebook_name or "", retries)
        try:
            return self._client.run(flow).id
        except LosantError as error:
            raise NotebookExecutionError(f"{error} (connection {arguments.losant_conn_id!r})") from error
