# SPDX-License-Identifier: Apache-2.0
"""The API port: checks a request in the same order as Losant, handles it, and applies injected faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from airflow_provider_losant.emulator.http.context import RequestContext
from airflow_provider_losant.emulator.http.handlers import HANDLERS
from airflow_provider_losant.emulator.http.operations import Operation, QueryParameter, match
from airflow_provider_losant.emulator.http.schemas import ID, body_error
from airflow_provider_losant.emulator.http.wire import (
    TOKEN_PARAMETERS,
    ParsedBody,
    Refused,
    Response,
    log_entry,
    parse_body,
)
from airflow_provider_losant.emulator.state.timestamps import format_http_date

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.faults import Faults
    from airflow_provider_losant.emulator.http.fault_injector import FaultInjector
    from airflow_provider_losant.emulator.requestlog import RequestLog
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.identity import Token

_ID_PARAMETER: Final = QueryParameter(required=True, pattern=ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Incoming:
    """A request with its operation, the ids in its path, and its parsed body."""

    request: web.Request
    operation: Operation | None
    ids: dict[str, str]
    body: ParsedBody


class Api:
    """
    Serves the API port.

    :param backend: the state of the emulator.
    :param faults: the injected faults.
    :param log: the request log.
    :param on_change: called after every request that may have changed the state.
    :param injector: applies the faults.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        faults: Faults,
        log: RequestLog,
        on_change: Callable[[], None],
        injector: FaultInjector,
    ) -> None:
        self._backend = backend
        self._faults = faults
        self._log = log
        self._on_change = on_change
        self._injector = injector

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Respond to a request, applying the fault that is injected into it, if any."""
        operation, ids = match(request.method, request.rel_url.raw_path) or (None, {})
        body = await parse_body(request, operation)
        incoming = _Incoming(request=request, operation=operation, ids=ids, body=body)
        request_id = self._log.record(log_entry(request, operation, body.json, self._backend.clock()))
        fault = self._faults.take(operation.name if operation else "")
        response: web.StreamResponse | None = None
        try:
            if fault is None:
                response = self._respond(incoming).to_web(request)
            else:
                rate_limit_type = self._backend.switches.rate_limit_type
                response = await self._injector.apply(
                    request, fault, lambda: self._respond(incoming), rate_limit_type
                )
            if response is not None and not response.prepared:
                response.headers["Date"] = format_http_date(self._backend.clock())
        finally:
            self._log.complete(request_id, None if response is None else response.status)
        # A response is a mapping for middlewares: before aiohttp 3.12 it is false while that is empty.
        return web.Response() if response is None else response

    def _respond(self, incoming: _Incoming) -> Response:
        if incoming.operation is None:
            message = f"{incoming.request.method} is not allowed"
            return Response.from_error(Refused(405, "MethodNotAllowed", message))
        if incoming.body.error is not None:
            # Losant's body parser responds before the API does, and its errors have "code" instead of "type".
            return Response.from_json(400, {"code": "InvalidContent", "message": incoming.body.error})
        try:
            _validate(incoming, incoming.operation)
            with self._backend.lock:
                context = self._authorize(incoming, incoming.operation)
                status, body = HANDLERS[incoming.operation.name](context)
        except Refused as refused:
            return Response.from_error(refused)
        self._on_change()
        return Response.from_json(status, body)

    def _authorize(self, incoming: _Incoming, operation: Operation) -> RequestContext:
        """Check the token and find the application and the notebook."""
        query = incoming.request.query
        token = self._token(incoming.request)
        if not token.allows(operation.scopes, accepts_read_scopes=operation.accepts_read_scopes):
            raise Refused(403, "Forbidden", "Access is forbidden")
        application = self._backend.applications.get(incoming.ids["applicationId"].lower())
        if application is None or not token.sees(application.id):
            raise Refused(404, "NotFound", "Application was not found")
        notebook = self._backend.notebooks.get(incoming.ids.get("notebookId", "").lower())
        if "notebookId" in incoming.ids and (notebook is None or notebook.application_id != application.id):
            raise Refused(404, "NotFound", "Notebook was not found")
        return RequestContext(
            backend=self._backend,
            token=token,
            application=application,
            found_notebook=notebook,
            query=dict(query),
            body=incoming.body.json,
            file=incoming.body.file or ("", b""),
            include_links=query.get("_links", "true") in ("true", "1", "yes"),
        )

    def _token(self, request: web.Request) -> Token:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme not in ("Bearer", "JWT"):
            text = next((request.query[name] for name in TOKEN_PARAMETERS if name in request.query), "")
        if not text:
            status = self._backend.switches.no_token_status
            kind = "Forbidden" if status == HTTPStatus.FORBIDDEN else "Unauthorized"
            raise Refused(status, kind, "Access is forbidden")
        token = self._backend.tokens.get(text)
        if token is None:
            raise Refused(401, "Unauthorized", "Invalid access token")
        if token.expired:
            raise Refused(401, "Unauthorized", "Access token has expired")
        return token


def _validate(incoming: _Incoming, operation: Operation) -> None:
    """
    Check path, query and body.

    :raises Refused: for the first error.
    """
    query, body = incoming.request.query, incoming.body
    errors = [_ID_PARAMETER.error(name, [value]) for name, value in incoming.ids.items()]
    errors += [parameter.error(name, query.getall(name, [])) for name, parameter in operation.query.items()]
    if operation.body is not None:
        errors.append(body_error(operation.body, body.json))
    if operation.file is not None and body.file is None:
        errors.append(f"{operation.file} is {'not a valid file' if body.is_not_a_file else 'required'}")
    for error in errors:
        if error is not None:
            raise Refused(400, "Validation", error)
