# SPDX-License-Identifier: Apache-2.0
"""The hook: reads the Airflow connection, and calls Losant's REST API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from airflow_provider_losant._compat import storage_path
from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.flows.log_reader import FIRST_LIMIT
from airflow_provider_losant.api.flows.notebooks import list_notebooks
from airflow_provider_losant.api.flows.outputs import find_execution
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.skipped_entries import read_executions
from airflow_provider_losant.api.payloads import encode_context, execution_options, notebook_body
from airflow_provider_losant.api.timestamps import parse_timestamp
from airflow_provider_losant.exceptions import permanent_errors_as_config_error
from airflow_provider_losant.hooks import connection_form
from airflow_provider_losant.hooks.arguments import parse_optional
from airflow_provider_losant.hooks.outputs import OutputDownloads

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_losant.api.endpoints import Upload
    from airflow_provider_losant.api.model import Execution, MinuteCounts, Notebook
    from airflow_provider_losant.api.payloads import NotebookFields

T = TypeVar("T")
SortField = Literal["name", "id", "creationDate", "lastUpdated", "lastExecutionRequested"]


class LosantHook(OutputDownloads):
    """
    Call the notebook operations of Losant's REST API.

    The methods return typed objects of :mod:`airflow_provider_losant.api.model`, whose ``raw`` is Losant's
    JSON. A request that failed temporarily is retried up to the connection's ``max_retries`` times if that is
    safe. After a 401 the connection is read again, because the token may have been rotated.

    :param losant_conn_id: The Airflow connection of type ``losant``.
    :param application_id: ID of the application, unless a method gets another; by default the connection's
        ``application_id``.
    :raises LosantConfigError: a field of the connection is missing or invalid; the message names it.
    :raises LosantError: Losant could not be reached or returned an error.
    """

    # Airflow does not call these two if they are inherited.
    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:  # before Airflow 3.2
        """Return the additional fields of the connection form, for Airflow before 3.2."""
        return connection_form.widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:  # before Airflow 3.2
        """Return how the connection form shows the standard fields, for Airflow before 3.2."""
        return connection_form.behaviour()

    def list_notebooks(
        self,
        *,
        name: str | None = None,
        sort_by: SortField = "name",
        descending: bool = False,
        page: int | None = None,
        per_page: int = endpoints.PAGE_SIZE,
        application_id: str | None = None,
    ) -> list[Notebook]:
        """
        Return an application's notebooks: all pages, or one page.

        See Losant's `Notebooks: Get <https://docs.losant.com/rest-api/notebooks/#get>`__.

        :param name: Only notebooks with this name; may be a glob such as ``energy*``.
        :param sort_by: ``name``, ``id``, ``creationDate``, ``lastUpdated`` or ``lastExecutionRequested``.
        :param descending: Whether to sort in descending order.
        :param page: Only this page; the first is 0.
        :param per_page: Number of notebooks per request; Losant may return fewer.
        """
        query = {"sortField": sort_by, "sortDirection": "desc" if descending else "asc"}
        if name is not None:
            query |= {"filterField": "name", "filter": name}
        return self.client.run(
            list_notebooks(
                self.resolve_application_id(application_id),
                query,
                self.settings.max_retries,
                page=page,
                per_page=per_page,
            )
        )

    def create_notebook(
        self, *, application_id: str | None = None, **fields: Unpack[NotebookFields]
    ) -> Notebook:
        """
        Create a notebook without a Jupyter file; not retried if the response is lost.

        See Losant's `Notebooks: Post <https://docs.losant.com/rest-api/notebooks/#post>`__.

        :param fields: ``name``, and optionally ``description``, ``image_version``, ``inputs``, ``outputs``.
        """
        return self._call(application_id, lambda app: endpoints.create_notebook(app, notebook_body(fields)))

    def get_notebook(self, notebook_id: str, *, application_id: str | None = None) -> Notebook:
        """
        Return one notebook.

        See Losant's `Notebook: Get <https://docs.losant.com/rest-api/notebook/#get>`__.
        """
        return self._call(application_id, lambda app: endpoints.get_notebook(app, notebook_id))

    def upload_notebook(
        self, notebook_id: str, path: str | PathLike[str] | Upload, *, application_id: str | None = None
    ) -> Notebook:
        """
        Replace a notebook's Jupyter file; the file is streamed.

        See Losant's `Notebook: Upload <https://docs.losant.com/rest-api/notebook/#upload>`__.

        :param path: The ``.ipynb`` file: a local path, a URL such as ``s3://bucket/report.ipynb``, or an
            ``ObjectStoragePath``.
        """
        file = storage_path(path) if isinstance(path, str | PathLike) else path
        return self._call(application_id, lambda app: endpoints.upload_notebook(app, notebook_id, file))

    def execute_notebook(
        self,
        notebook_id: str,
        *,
        relative_to: datetime | str | float | None = None,
        template_context: Mapping[str, Any] | str | None = None,
        email: str | None = None,
        callback_url: str | None = None,
        application_id: str | None = None,
    ) -> str:
        """
        Submit an execution and return its id; not retried if Losant may have received the request.

        See Losant's `Notebook: Execute <https://docs.losant.com/rest-api/notebook/#execute>`__.

        :param relative_to: Query time: datetime, ISO-8601 text or epoch *milliseconds*; defaults to the time
            at which Losant receives the request.
        :param template_context: Mapping or the text of a JSON object, at most 32,767 characters. Timestamps,
            decimals, NumPy's numbers, all kinds of sequences and more are converted to JSON.
        :param email: Address to which Losant sends an e-mail when the execution has ended.
        :param callback_url: URL to which Losant sends a POST request when the execution has ended.
        :raises LosantConfigError: an argument is invalid; the message names it.
        """
        options = self._options(relative_to, template_context, email, callback_url)
        return self._call(
            application_id, lambda app: endpoints.execute(app, notebook_id, options)
        ).execution_id

    def cancel_execution(
        self, notebook_id: str, execution_id: str, *, application_id: str | None = None
    ) -> None:
        """
        Request cancellation of an execution; its status becomes ``canceling``, and later ``canceled``.

        See Losant's `Notebook: Cancel Execution
        <https://docs.losant.com/rest-api/notebook/#cancel-execution>`__.

        :raises NotFound: the execution does not exist or has ended.
        """
        ref = self.execution_ref(notebook_id, execution_id, application_id=application_id)
        self._call(application_id, lambda _: endpoints.cancel_execution(ref))

    def get_execution_logs(
        self,
        notebook_id: str,
        *,
        limit: int = FIRST_LIMIT,
        since: datetime | str | float | None = None,
        application_id: str | None = None,
    ) -> list[Execution]:
        """
        Return a notebook's latest executions, newest first.

        An entry that cannot be parsed is skipped, with a warning.

        See Losant's `Notebook: Logs <https://docs.losant.com/rest-api/notebook/#logs>`__.

        :param limit: Maximum number of executions.
        :param since: Only executions since then: datetime, ISO-8601 text or epoch *milliseconds*; defaults to
            all that Losant keeps.
        """
        with permanent_errors_as_config_error():
            epoch = 0.0 if since is None else parse_timestamp(since, field="since").timestamp()
            app = self.resolve_application_id(application_id)
            call = endpoints.execution_logs(app, notebook_id, limit=limit, since=epoch)
        return self.client.run(read_executions(call, notebook_id, self.settings.max_retries))

    def get_execution(
        self, notebook_id: str, execution_id: str, *, application_id: str | None = None
    ) -> Execution:
        """
        Return one execution, searched for in the notebook's log: Losant has no endpoint for it.

        :raises ExecutionNotFound: the log does not list it; a kind of ``NotFound``.
        :raises LogIncomplete: the log does not list it, but could not be read back to its submission.
        """
        ref = self.execution_ref(notebook_id, execution_id, application_id=application_id)
        return self.client.run(find_execution(ref, self.settings.max_retries))

    def update_notebook(
        self, notebook_id: str, *, application_id: str | None = None, **fields: Unpack[NotebookFields]
    ) -> Notebook:
        """
        Update the given fields of a notebook, and return the updated notebook.

        ``inputs`` and ``outputs`` are replaced as a whole: to add an item, pass the existing ones too.

        See Losant's `Notebook: Patch <https://docs.losant.com/rest-api/notebook/#patch>`__.

        :param fields: ``name``, ``description``, ``image_version``, ``inputs``, ``outputs``.
        """
        body = notebook_body(fields)
        return self._call(application_id, lambda app: endpoints.update_notebook(app, notebook_id, body))

    def delete_notebook(self, notebook_id: str, *, application_id: str | None = None) -> None:
        """
        Delete a notebook and its execution log.

        See Losant's `Notebook: Delete <https://docs.losant.com/rest-api/notebook/#delete>`__.

        :raises NotFound: the notebook does not exist.
        """
        self._call(application_id, lambda app: endpoints.delete_notebook(app, notebook_id))

    def get_minute_counts(
        self,
        notebook_id: str,
        *,
        start: datetime | str | float | None = None,
        end: datetime | str | float | None = None,
        application_id: str | None = None,
    ) -> MinuteCounts:
        """
        Return a notebook's run minutes and numbers of executions by status, per day.

        See Losant's `Notebook: Notebook Minute Counts
        <https://docs.losant.com/rest-api/notebook/#notebook-minute-counts>`__.

        :param start: Datetime, ISO-8601 text or epoch *milliseconds*; None for Losant's default.
        :param end: As ``start``.
        """
        with permanent_errors_as_config_error():
            span = {
                field: parse_timestamp(value, field=field).timestamp()
                for field, value in {"start": start, "end": end}.items()
                if value is not None
            }
        return self._call(application_id, lambda app: endpoints.minute_counts(app, notebook_id, **span))

    def request_input_data_export(
        self,
        notebook_id: str,
        *,
        relative_to: datetime | str | float | None = None,
        template_context: Mapping[str, Any] | str | None = None,
        email: str | None = None,
        callback_url: str | None = None,
        application_id: str | None = None,
    ) -> str:
        """
        Request an export of a notebook's input data, and return the job's id; not retried.

        Losant accepts one request per notebook in 15 minutes, and sends the URL of the data by e-mail or
        callback.

        See Losant's `Notebook: Request Input Data Export
        <https://docs.losant.com/rest-api/notebook/#request-input-data-export>`__.

        :param relative_to: As in :meth:`execute_notebook`.
        :param template_context: As in :meth:`execute_notebook`.
        :param email: Address to which Losant sends the URL of the data.
        :param callback_url: URL to which Losant posts the URL of the data.
        :raises RateLimited: the last request was less than 15 minutes ago; ``retry_after`` is the remaining
            time in seconds, if Losant sent it.
        """
        options = self._options(relative_to, template_context, email, callback_url)
        return self._call(application_id, lambda app: endpoints.request_export(app, notebook_id, options))

    def _options(
        self,
        relative_to: datetime | str | float | None,
        template_context: Mapping[str, Any] | str | None,
        email: str | None,
        callback_url: str | None,
    ) -> dict[str, Any]:
        with permanent_errors_as_config_error():
            return execution_options(
                relative_to=parse_optional("relative_to", relative_to),
                template_context=encode_context(template_context),
                email=parse_optional("email", email),
                callback_url=parse_optional("callback_url", callback_url),
            )

    def _call(self, application_id: str | None, make_call: Callable[[str], endpoints.Call[T]]) -> T:
        with permanent_errors_as_config_error():
            call = make_call(self.resolve_application_id(application_id))
        return self.client.run(call_with_retry(call, self.settings.max_retries))
