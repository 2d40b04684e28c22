# SPDX-License-Identifier: Apache-2.0
"""What every hook to Losant does: read the Airflow connection, and make the clients."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_losant import __version__, metrics
from airflow_provider_losant._compat import AIRFLOW_VERSION, read_connection
from airflow_provider_losant.api.fields import is_given, listed, losant_id, text
from airflow_provider_losant.api.model import ExecutionRef
from airflow_provider_losant.api.settings import Settings, parse_extra
from airflow_provider_losant.exceptions import LosantConfigError, permanent_errors_as_config_error

if TYPE_CHECKING:
    import requests

    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.flows.wait import Target
    from airflow_provider_losant.api.http.async_client import SharedClient
    from airflow_provider_losant.api.http.client import Client
    from airflow_provider_losant.api.model import Notebook

T = TypeVar("T")

SETTINGS_TTL = 1.0
"""Seconds for which the triggers of an event loop share a connection's settings without reading it again."""
_settings_cache: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[Settings]] = {}

USER_AGENT = (
    f"airflow-provider-losant/{__version__} apache-airflow/{AIRFLOW_VERSION} "
    f"python/{platform.python_version()}"
)


class LosantConnectionHook(BaseHook):
    """
    Read the Airflow connection, and provide the clients that its settings describe.

    :param losant_conn_id: The Airflow connection of type ``losant``.
    :param application_id: ID of the application; by default the connection's ``application_id``.
    :raises LosantConfigError: a field of the connection is missing or invalid; the message names it.
    """

    conn_name_attr = "losant_conn_id"
    default_conn_name = "losant_default"
    conn_type = "losant"
    hook_name = "Losant"

    def __init__(self, losant_conn_id: str = default_conn_name, application_id: str | None = None) -> None:
        super().__init__()
        self.losant_conn_id = losant_conn_id
        self.application_id = application_id

    @cached_property
    def settings(self) -> Settings:
        """The connection's settings, read on first access."""
        return self._read_settings()

    @cached_property
    def client(self) -> Client:
        """The client of this hook, with one connection pool."""
        from airflow_provider_losant.api.http.client import Client

        return Client(
            self.settings,
            self.log.log,
            refresh=self._read_settings,
            on_request=metrics.in_worker().on_request,
        )

    def get_conn(self) -> requests.Session:
        """
        Return the authenticated session, for endpoints that this hook has no method for.

        It takes no proxy and no certificate authority from the environment by itself: those that the hook's
        own requests use are set.
        """
        with permanent_errors_as_config_error():
            return self.client.session

    async def aclient(self) -> SharedClient:
        """Return the client that hooks with the same connection share in the running event loop."""
        from airflow_provider_losant.api.http.async_client import SharedClient

        settings = await self._cached_settings()
        return SharedClient(
            settings,
            self._areload_settings,
            metrics.in_triggerer().on_request,
            name=self.losant_conn_id,
        )

    async def aload_settings(self) -> None:
        """Read the connection without blocking the event loop; afterwards ``settings`` needs no I/O."""
        self.settings = await self._cached_settings()

    async def arun(self, flow: Flow[T]) -> T:
        """Run a flow on the running event loop, and return its result."""
        async with await self.aclient() as client:
            return await client.run(flow, self.log.log)

    async def asettings(self) -> Settings:
        """Read the connection without blocking the event loop."""
        connection, extra = await read_connection(self._given_conn_id())
        return self._settings_of(connection, extra)

    def resolve_application_id(self, application_id: str | None = None) -> str:
        """
        Return the application's id: the argument, the hook's, or the connection's.

        :raises LosantConfigError: none of them is set, or it is not an id.
        """
        given = [it for it in (application_id, self.application_id) if is_given(it)]
        resolved = given[0] if given else self.settings.application_id
        if not resolved:
            raise LosantConfigError(
                "application_id: is missing; pass it, or set application_id in the extra of connection "
                f"{self.losant_conn_id!r}"
            )
        with permanent_errors_as_config_error():
            return losant_id(resolved, field="application_id")

    def test_connection(self) -> tuple[bool, str]:
        """
        Check host, token, application, and the scopes that running a notebook needs.

        :return: Whether notebooks can be run, and a sentence about it for the user.
        """
        from airflow_provider_losant.api.flows.connection_test import check_connection

        try:
            is_well, message = self.client.run(
                check_connection(self.resolve_application_id(), self.settings.token)
            )
        except LosantConfigError as error:
            return False, str(error)
        unread = self.settings.unread_keys
        return is_well, f"{message}; {_unread(unread)}" if unread else message

    def execution_ref(
        self, notebook_id: str, execution_id: str, *, application_id: str | None = None
    ) -> ExecutionRef:
        """
        Return a reference to an execution.

        :raises LosantConfigError: an id is missing or invalid.
        """
        with permanent_errors_as_config_error():
            return ExecutionRef(
                application_id=self.resolve_application_id(application_id),
                notebook_id=losant_id(notebook_id, field="notebook_id"),
                execution_id=losant_id(execution_id, field="execution_id"),
            )

    def find_notebook(self, name: str, *, application_id: str | None = None) -> Notebook:
        """
        Return the only notebook with exactly this name.

        See Losant's `Notebooks: Get <https://docs.losant.com/rest-api/notebooks/#get>`__.

        :param name: The name; ``*`` in it is not a glob.
        :raises InvalidArgument: none or several notebooks have the name; the message lists what there is.
        """
        from airflow_provider_losant.api.flows.notebooks import find_notebook

        resolved = self.resolve_application_id(application_id)
        return self.client.run(find_notebook(resolved, name, self.settings.max_retries))

    def notebook_url(self, ref: ExecutionRef | Target) -> str:
        """Return the URL of an execution's notebook in Losant's web interface."""
        return self.settings.notebook_url(
            application_id=ref.application_id,
            notebook_id=ref.notebook_id,
            execution_id=ref.execution_id or "",
        )

    async def _cached_settings(self) -> Settings:
        """Read the connection once for all triggers that start together, as after a triggerer's restart."""
        loop = asyncio.get_running_loop()
        key = (loop, self.losant_conn_id)
        reading = _settings_cache.get(key)
        if reading is None:
            reading = _settings_cache[key] = asyncio.ensure_future(self._first_settings())
            loop.call_later(SETTINGS_TTL, _settings_cache.pop, key, None)
        return await asyncio.shield(reading)

    async def _first_settings(self) -> Settings:
        await metrics.prepare_triggerer()
        return await self.asettings()

    async def _areload_settings(self) -> Settings:
        """Read the connection again, so that no trigger that starts now gets an older token."""
        settings = await self.asettings()
        _settings_cache.pop((asyncio.get_running_loop(), self.losant_conn_id), None)
        return settings

    def _read_settings(self) -> Settings:
        connection = self.get_connection(self._given_conn_id())
        settings = self._settings_of(connection, connection.extra_dejson)
        if settings.unread_keys:
            self.log.warning("Connection %r: %s", self.losant_conn_id, _unread(settings.unread_keys))
        return settings

    def _given_conn_id(self) -> str:
        if not is_given(self.losant_conn_id):
            raise LosantConfigError("losant_conn_id: is missing")
        with permanent_errors_as_config_error():
            return text(self.losant_conn_id, field="losant_conn_id")

    def _settings_of(self, connection: Any, decoded: Any) -> Settings:
        """
        Return the settings of a connection.

        :param decoded: Its extra as Airflow decodes it, masking what is secret; it may be of any type, and
            is empty if the extra is not valid JSON.
        """
        with permanent_errors_as_config_error(f"Connection {self.losant_conn_id!r}: "):
            return Settings.from_connection(
                host=connection.host,
                port=connection.port,
                token=connection.password,
                extra=decoded if decoded and isinstance(decoded, Mapping) else parse_extra(connection.extra),
                user_agent=USER_AGENT,
            )


def _unread(keys: Sequence[str]) -> str:
    return f"extra has keys that are not read: {listed(map(repr, keys))}"
