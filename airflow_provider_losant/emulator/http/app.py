# SPDX-License-Identifier: Apache-2.0
"""The API port: checks a request in Losant's order, answers it, or spoils the answer as ordered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from airflow_provider_losant.emulator.http.context import RequestContext
from airflow_provider_losant.emulator.http.handlers import HANDLERS
from airflow_provider_losant.emulator.http.operations import Operation, Query, find
from airflow_provider_losant.emulator.http.schemas import ID, body_problem
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

_ID_RULE: Final = Query(required=True, pattern=ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Incoming:
    """A request, the operation that it names, and what could be read of its body."""

    request: web.Request
    operation: Operation | None
    ids: dict[str, str]
    body: ParsedBody


class Api:
    """
    Serves the API port.

    :param on_change: called after every request that may have changed the state.
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
        """Answer one request, or let it go wrong."""
        operation, ids = find(request.method, request.rel_url.raw_path) or (None, {})
        incoming = _Incoming(
            request=request, operation=operation, ids=ids, body=await parse_body(request, operation)
        )
        request_id = self._log.record(
            log_entry(request, operation, incoming.body.json, self._backend.clock())
        )
        fault = self._faults.take(operation.name if operation else "")
        response: web.StreamResponse | None = None
        try:
            if fault is None:
                response = self._answer(incoming).to_web(request)
            else:
                kind = self._backend.switches.rate_limit_type
                response = await self._injector.apply(request, fault, lambda: self._answer(incoming), kind)
            if response is not None and not response.prepared:
                response.headers["Date"] = format_http_date(self._backend.clock())
        finally:
            self._log.complete(request_id, None if response is None else response.status)
        return response or web.Response()

    def _answer(self, incoming: _Incoming) -> Response:
        if incoming.operation is None:
            message = f"{incoming.request.method} is not allowed"
            return Response.from_error(Refused(405, "MethodNotAllowed", message))
        if incoming.body.error is not None:
            # The body parser answers before Losant's own code does, and says "code" instead of "type".
            return Response.from_json(400, {"code": "InvalidContent", "message": incoming.body.error})
        try:
            _check_shape(incoming, incoming.operation)
            with self._backend.lock:
                context = self._authorize(incoming, incoming.operation)
                status, body = HANDLERS[incoming.operation.name](context)
        except Refused as refused:
            return Response.from_error(refused)
        self._on_change()
        return Response.from_json(status, body)

    def _authorize(self, incoming: _Incoming, operation: Operation) -> RequestContext:
        """Check who asks, and find what the request is about."""
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


def _check_shape(incoming: _Incoming, operation: Operation) -> None:
    query = incoming.request.query
    problems = [_ID_RULE.problem(name, [given]) for name, given in incoming.ids.items()]
    problems += [rule.problem(name, query.getall(name, [])) for name, rule in operation.query.items()]
    if operation.body is not None:
        problems.append(body_problem(operation.body, incoming.body.json))
    if operation.file is not None and incoming.body.file is None:
        problems.append(
            f"{operation.file} is {'not a valid file' if incoming.body.is_not_a_file else 'required'}"
        )
    for problem in problems:
        if problem is not None:
            raise Refused(400, "Validation", problem)
