# SPDX-License-Identifier: Apache-2.0
"""Losant's notebooks for Airflow: connections become settings, flows become answers."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from glob import escape
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_losant import __version__
from airflow_provider_losant._compat import AIRFLOW_VERSION, read_connection, storage_path
from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.flows.notebooks import list_notebooks
from airflow_provider_losant.api.flows.outputs import OutputSelection, find_execution
from airflow_provider_losant.api.flows.poll_schedule import FIRST_LIMIT
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.model import ExecutionRef, losant_id
from airflow_provider_losant.api.payloads import encode_context, execution_options, notebook_body
from airflow_provider_losant.api.settings import Settings
from airflow_provider_losant.api.timestamps import parse_timestamp
from airflow_provider_losant.exceptions import LosantConfigError, permanent_errors_as_config_error
from airflow_provider_losant.hooks import connection_form
from airflow_provider_losant.hooks.output_folder import OutputFolder

if TYPE_CHECKING:
    from datetime import datetime

    import requests

    from airflow_provider_losant.api.endpoints import Upload
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.flows.wait import Target
    from airflow_provider_losant.api.http.async_client import SharedClient
    from airflow_provider_losant.api.http.client import Client
    from airflow_provider_losant.api.model import Execution, ExecutionLog, Notebook
    from airflow_provider_losant.api.payloads import NotebookFields
    from airflow_provider_losant.api.usage import MinuteCounts
    from airflow_provider_losant.hooks.output_folder import IfExists

T = TypeVar("T")
SortField = Literal["name", "id", "creationDate", "lastUpdated", "lastExecutionRequested"]

SETTINGS_TTL = 1.0
"""Seconds for which a connection that was read counts as read."""
_settings_cache: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[Settings]] = {}

USER_AGENT = (
    f"airflow-provider-losant/{__version__} apache-airflow/{AIRFLOW_VERSION} "
    f"python/{platform.python_version()}"
)


class LosantHook(BaseHook):
    """
    Talk to Losant's REST API about notebooks.

    Every method asks once and returns typed objects of :mod:`airflow_provider_losant.api.model`, whose
    ``raw`` is Losant's own answer. What may be repeated without harm is, up to the connection's
    ``max_retries``; a token that was rotated meanwhile is read again from the connection.

    :param losant_conn_id: The Airflow connection of type ``losant``.
    :param application_id: Application to work in, unless a method is given another; by default the
        connection's ``application_id``.
    :raises LosantConfigError: the connection lacks something or makes no sense; the message names the field.
    :raises LosantError: Losant could not be reached, or refused.
    """

    conn_name_attr = "losant_conn_id"
    default_conn_name = "losant_default"
    conn_type = "losant"
    hook_name = "Losant"

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of our own in the connection form, for Airflow before 3.2."""
        return connection_form.widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return what the form makes of the usual fields, for Airflow before 3.2."""
        return connection_form.behaviour()

    def __init__(self, losant_conn_id: str = default_conn_name, application_id: str | None = None) -> None:
        super().__init__()
        self.losant_conn_id = losant_conn_id
        self.application_id = application_id

    @cached_property
    def settings(self) -> Settings:
        """What the connection says."""
        return self._read_settings()

    @cached_property
    def client(self) -> Client:
        """The one pool of connections of this hook."""
        from airflow_provider_losant.api.http.client import Client

        return Client(self.settings, self.log.log, refresh=self._read_settings)

    def get_conn(self) -> requests.Session:
        """Return the session, ready to talk to Losant, for what this hook has no method for."""
        return self.client.session

    async def aclient(self) -> SharedClient:
        """Borrow the client that all waits of the running event loop share, as long as they mean the same."""
        from airflow_provider_losant.api.http.async_client import SharedClient

        return SharedClient(await self._cached_settings(), self.asettings)

    async def aload_settings(self) -> None:
        """Read the connection without blocking the event loop; what needs no Losant then needs no I/O."""
        self.settings = await self._cached_settings()

    async def arun(self, flow: Flow[T]) -> T:
        """Carry a flow out on the running event loop."""
        async with await self.aclient() as client:
            return await client.run(flow, self.log.log)

    async def _cached_settings(self) -> Settings:
        """Read the connection once for all waits that begin together, as after a restart of the triggerer."""
        loop = asyncio.get_running_loop()
        key = (loop, self.losant_conn_id)
        reading = _settings_cache.get(key)
        if reading is None:
            reading = _settings_cache[key] = asyncio.ensure_future(self.asettings())
            loop.call_later(SETTINGS_TTL, _settings_cache.pop, key, None)
        return await asyncio.shield(reading)

    async def asettings(self) -> Settings:
        """Read the connection without blocking the event loop."""
        connection, extra = await read_connection(self.losant_conn_id)
        return self._settings_of(connection, extra)

    def resolve_application_id(self, application_id: str | None = None) -> str:
        """Return the application to work in: the argument's, the hook's, or the connection's."""
        chosen = application_id or self.application_id or self.settings.application_id
        if not chosen:
            raise LosantConfigError(
                "application_id: is missing; pass it, or set application_id in the extra of connection "
                f"{self.losant_conn_id!r}"
            )
        with permanent_errors_as_config_error():
            return losant_id(chosen, field="application_id")

    def test_connection(self) -> tuple[bool, str]:
        """
        Try whether host, token, application and the token's scopes do for running a notebook.

        :return: Whether they do, and a sentence about it that is fit for a user's eyes.
        """
        from airflow_provider_losant.api.flows.connection_test import check_connection

        try:
            return self.client.run(check_connection(self.resolve_application_id(), self.settings.token))
        except LosantConfigError as error:
            return False, str(error)

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
        Return an application's notebooks: all of them, page after page, or one page.

        See Losant's `Notebooks: Get <https://docs.losant.com/rest-api/notebooks/#get>`__.

        :param name: Only notebooks of this name; a glob such as ``energy*``.
        :param sort_by: ``name``, ``id``, ``creationDate``, ``lastUpdated`` or ``lastExecutionRequested``.
        :param page: Only this page; the first is 0.
        :param per_page: How many notebooks Losant is asked for at a time; it may give fewer.
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
        Make a notebook, still without a Jupyter file; never repeated when the answer is lost.

        See Losant's `Notebooks: Post <https://docs.losant.com/rest-api/notebooks/#post>`__.

        :param fields: ``name``, and if need be ``description``, ``image_version``, ``inputs``, ``outputs``.
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
        Replace a notebook's Jupyter file by another, read piece by piece.

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
        Start a run and return its execution id; never repeated once Losant may have taken it.

        See Losant's `Notebook: Execute <https://docs.losant.com/rest-api/notebook/#execute>`__.

        :param relative_to: Query time: datetime, ISO-8601 text or epoch *milliseconds*; None is now.
        :param template_context: Mapping or JSON text, at most 32,767 characters.
        :param email: Whom Losant tells when the run has ended.
        :param callback_url: Where Losant posts to when the run has ended.
        """
        options = self._options(relative_to, template_context, email, callback_url)
        return self._call(
            application_id, lambda app: endpoints.execute(app, notebook_id, options)
        ).execution_id

    def cancel_execution(
        self, notebook_id: str, execution_id: str, *, application_id: str | None = None
    ) -> None:
        """
        Mark a run for cancellation; it becomes ``canceling``, and later ``canceled``.

        See Losant's `Notebook: Cancel Execution
        <https://docs.losant.com/rest-api/notebook/#cancel-execution>`__.

        :raises NotFound: Losant knows no such run, or it has ended.
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
        Return a notebook's latest runs, newest first.

        See Losant's `Notebook: Logs <https://docs.losant.com/rest-api/notebook/#logs>`__.

        :param limit: How many at the most.
        :param since: Datetime, ISO-8601 text or epoch *milliseconds*; by default as far back as Losant goes.
        """
        with permanent_errors_as_config_error():
            epoch = 0.0 if since is None else parse_timestamp(since, field="since").timestamp()
        look = partial(endpoints.execution_logs, notebook_id=notebook_id, limit=limit, since=epoch)
        log: ExecutionLog = self._call(application_id, look)
        return list(log)

    def get_execution(
        self, notebook_id: str, execution_id: str, *, application_id: str | None = None
    ) -> Execution:
        """
        Return one run. Losant has no endpoint for it, so it is looked for in the notebook's log.

        :raises NotFound: the log does not show it.
        """
        ref = self.execution_ref(notebook_id, execution_id, application_id=application_id)
        return self.client.run(find_execution(ref, self.settings.max_retries))

    def update_notebook(
        self, notebook_id: str, *, application_id: str | None = None, **fields: Unpack[NotebookFields]
    ) -> Notebook:
        """
        Change what is given of a notebook, and return it as it is now.

        ``inputs`` and ``outputs`` are replaced as a whole: to add one, send the others with it.

        See Losant's `Notebook: Patch <https://docs.losant.com/rest-api/notebook/#patch>`__.

        :param fields: ``name``, ``description``, ``image_version``, ``inputs``, ``outputs``.
        """
        body = notebook_body(fields)
        return self._call(application_id, lambda app: endpoints.update_notebook(app, notebook_id, body))

    def delete_notebook(self, notebook_id: str, *, application_id: str | None = None) -> None:
        """
        Delete a notebook, and with it the log of its executions.

        See Losant's `Notebook: Delete <https://docs.losant.com/rest-api/notebook/#delete>`__.

        :raises NotFound: there is no such notebook.
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
        Return how many minutes a notebook's runs have used, and how they ended, day by day.

        See Losant's `Notebook: Notebook Minute Counts
        <https://docs.losant.com/rest-api/notebook/#notebook-minute-counts>`__.

        :param start: Datetime, ISO-8601 text or epoch *milliseconds*; Losant chooses where it is None.
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
        Have the input data of a notebook exported, and return the id of the job; never repeated.

        Losant takes one in 15 minutes for each notebook, and tells by e-mail or callback where the data is.

        See Losant's `Notebook: Request Input Data Export
        <https://docs.losant.com/rest-api/notebook/#request-input-data-export>`__.

        :param relative_to: As in :meth:`execute_notebook`.
        :param template_context: As in :meth:`execute_notebook`.
        :param email: Who gets the address of the data.
        :param callback_url: What the address of the data is posted to.
        :raises RateLimited: there was one a short while ago; ``retry_after`` is what is left, if Losant says.
        """
        options = self._options(relative_to, template_context, email, callback_url)
        return self._call(application_id, lambda app: endpoints.request_export(app, notebook_id, options))

    def download_output(
        self,
        notebook_id: str,
        execution_id: str,
        name: str,
        destination: str | PathLike[str],
        *,
        application_id: str | None = None,
    ) -> str:
        """
        Fetch one output file of a run into a folder, and return its path; see :meth:`download_outputs`.

        :param name: The file's name, such as ``result.html``.
        """
        saved = self.download_outputs(
            notebook_id, execution_id, destination, outputs=escape(name), application_id=application_id
        )
        return saved[name]

    def download_outputs(
        self,
        notebook_id: str,
        execution_id: str,
        destination: str | PathLike[str],
        *,
        outputs: str | Sequence[str] = ("*",),
        if_exists: IfExists = "replace",
        max_bytes: int | None = None,
        application_id: str | None = None,
    ) -> dict[str, str]:
        """
        Fetch output files of a run into a folder; returns the path of each by its name.

        A file is whole when it is there. The Losant token never goes to the host of the files.

        :param destination: The folder, in any of Airflow's object storages: a local path, a URL such as
            ``s3://bucket/reports``, or an ``ObjectStoragePath``.
        :param outputs: Names of the files, or globs such as ``*.csv``; each has to fit some file.
        :param if_exists: ``replace`` a file that is there already, ``skip`` what would take its place, or
            ``fail`` before anything is fetched.
        :param max_bytes: What all the files together may have.
        :raises OutputError: the run has not ended, or has no such output, or they are too large.
        :raises NotebookOutputError: the folder could not be written to.
        """
        ref = self.execution_ref(notebook_id, execution_id, application_id=application_id)
        with permanent_errors_as_config_error():
            folder = OutputFolder.parse(destination, if_exists)
            selection = OutputSelection.parse(outputs, max_bytes)
        return self.client.run(folder.save(ref, selection, self.settings.max_retries))

    def execution_ref(
        self, notebook_id: str, execution_id: str, *, application_id: str | None = None
    ) -> ExecutionRef:
        """Return the three ids as one, once they are known to be ids."""
        with permanent_errors_as_config_error():
            return ExecutionRef(
                application_id=self.resolve_application_id(application_id),
                notebook_id=losant_id(notebook_id, field="notebook_id"),
                execution_id=losant_id(execution_id, field="execution_id"),
            )

    def notebook_url(self, ref: ExecutionRef | Target) -> str:
        """Return the address of an execution's notebook in Losant's web interface."""
        return self.settings.notebook_url(
            application_id=ref.application_id,
            notebook_id=ref.notebook_id,
            execution_id=ref.execution_id or "",
        )

    def _options(
        self,
        relative_to: datetime | str | float | None,
        template_context: Mapping[str, Any] | str | None,
        email: str | None,
        callback_url: str | None,
    ) -> dict[str, Any]:
        with permanent_errors_as_config_error():
            return execution_options(
                relative_to=None
                if relative_to is None
                else parse_timestamp(relative_to, field="relative_to"),
                template_context=encode_context(template_context),
                email=email,
                callback_url=callback_url,
            )

    def _call(self, application_id: str | None, make: Callable[[str], endpoints.Call[T]]) -> T:
        with permanent_errors_as_config_error():
            call = make(self.resolve_application_id(application_id))
        return self.client.run(call_with_retry(call, self.settings.max_retries))

    def _read_settings(self) -> Settings:
        connection = self.get_connection(self.losant_conn_id)
        return self._settings_of(connection, connection.extra_dejson)

    def _settings_of(self, connection: Any, extra: Mapping[str, Any]) -> Settings:
        with permanent_errors_as_config_error(f"Connection {self.losant_conn_id!r}: "):
            return Settings.from_connection(
                host=connection.host,
                port=connection.port,
                token=connection.password,
                extra=extra,
                user_agent=USER_AGENT,
            )
