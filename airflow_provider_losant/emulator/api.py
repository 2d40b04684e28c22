# SPDX-License-Identifier: Apache-2.0
"""The API port: checks a request in Losant's order, answers it, or spoils the answer as ordered."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from airflow_provider_losant.emulator.handlers import HANDLERS, Asked
from airflow_provider_losant.emulator.operations import Operation, Query, find
from airflow_provider_losant.emulator.requestlog import Request, RequestLog
from airflow_provider_losant.emulator.shapes import ID, body_problem
from airflow_provider_losant.emulator.world import Refused, World

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.faults import Fault, Faults
    from airflow_provider_losant.emulator.identity import Token

HEADERS: Final = {"Server": "Losant API", "Cache-Control": "no-cache, no-store, must-revalidate"}
_ID_RULE: Final = Query(required=True, pattern=ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back to the client."""

    status: int
    body: Any
    text: str | None = None

    def bytes(self) -> bytes:
        """Write the body as it goes over the wire."""
        return (json.dumps(self.body) if self.text is None else self.text).encode()


def refusal(refused: Refused) -> Answer:
    """Put an error into Losant's envelope."""
    return Answer(status=refused.status, body={"type": refused.type, "message": refused.message})


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A request as far as it could be read."""

    body: Any = None
    file: tuple[str, bytes] | None = None
    unreadable: str | None = None
    not_a_file: bool = False


class Api:
    """
    Serves the API port.

    :param changed: called after every request that may have given a worker something to do.
    :param stopping: set when the emulator stops, which releases every client that is kept waiting.
    """

    def __init__(
        self,
        world: World,
        faults: Faults,
        log: RequestLog,
        changed: Callable[[], None],
        stopping: asyncio.Event,
    ) -> None:
        self._world = world
        self._faults = faults
        self._log = log
        self._changed = changed
        self._stopping = stopping

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, or let it go wrong."""
        found = find(request.method, request.rel_url.raw_path)
        operation = found[0] if found else None
        read = await _read(request, operation)
        ticket = self._log.arrive(_note(request, operation, read, self._world.clock()))
        fault = self._faults.take(operation.name if operation else "")
        status: int | None = None
        try:
            response = await self._respond(request, found, read, fault)
            status = response.status if response is not None else None
            return response if response is not None else web.Response()
        finally:
            self._log.leave(ticket, status)

    async def _respond(
        self,
        request: web.Request,
        found: tuple[Operation, dict[str, str]] | None,
        read: Read,
        fault: Fault | None,
    ) -> web.StreamResponse | None:
        """Return the answer; ``None`` when the connection was cut instead."""
        if fault is None:
            return _send(request, self._answer(request, found, read))
        answer = self._answer(request, found, read) if fault.after_effect else None
        if fault.kind in ("hang", "slow"):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), fault.seconds)
        if fault.kind == "slow":
            return _send(request, answer or self._answer(request, found, read))
        if fault.kind in ("hang", "reset_before", "reset_after"):
            _reset(request)
            return None
        return _spoilt(request, fault, answer, self._world.switches.rate_limit_type)

    def _answer(
        self, request: web.Request, found: tuple[Operation, dict[str, str]] | None, read: Read
    ) -> Answer:
        try:
            if found is None:
                raise Refused(405, "MethodNotAllowed", f"{request.method} is not allowed")
            if read.unreadable is not None:
                # The body parser answers before Losant's own code does, and says "code" instead of "type".
                return Answer(status=400, body={"code": "InvalidContent", "message": read.unreadable})
            operation, ids = found
            _check_shape(request, operation, ids, read)
            with self._world.lock:
                asked = self._admit(request, operation, ids, read)
                status, body = HANDLERS[operation.name](asked)
            self._changed()
            return Answer(status=status, body=body)
        except Refused as refused:
            return refusal(refused)

    def _admit(self, request: web.Request, operation: Operation, ids: dict[str, str], read: Read) -> Asked:
        token = self._token(request)
        if not token.allows(operation.scopes, reads=operation.reads):
            raise Refused(403, "Forbidden", "Access is forbidden")
        application = self._world.applications.get(ids["applicationId"].lower())
        if application is None or not token.sees(application.id):
            raise Refused(404, "NotFound", "Application was not found")
        notebook = self._world.notebooks.get(ids.get("notebookId", "").lower())
        if "notebookId" in ids and (notebook is None or notebook.application_id != application.id):
            raise Refused(404, "NotFound", "Notebook was not found")
        return Asked(
            world=self._world,
            token=token,
            application=application,
            found=notebook,
            query=dict(request.query),
            body=read.body,
            file=read.file,
            links=request.query.get("_links", "true") in ("true", "1", "yes"),
        )

    def _token(self, request: web.Request) -> Token:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme not in ("Bearer", "JWT"):
            text = request.query.get("access_token") or request.query.get("jwt") or ""
        if not text:
            raise Refused(self._world.switches.no_token_status, "Forbidden", "Access is forbidden")
        token = self._world.tokens.get(text)
        if token is None:
            raise Refused(401, "Unauthorized", "Invalid access token")
        if token.expired:
            raise Refused(401, "Unauthorized", "Access token has expired")
        return token


def _check_shape(request: web.Request, operation: Operation, ids: dict[str, str], read: Read) -> None:
    problems = [_ID_RULE.problem(name, [given]) for name, given in ids.items()]
    problems += [rule.problem(name, request.query.getall(name, [])) for name, rule in operation.query.items()]
    if operation.body is not None:
        problems.append(body_problem(operation.body, read.body))
    if operation.file is not None and read.file is None:
        problems.append(f"{operation.file} is {'not a valid file' if read.not_a_file else 'required'}")
    for problem in problems:
        if problem is not None:
            raise Refused(400, "Validation", problem)


async def _read(request: web.Request, operation: Operation | None) -> Read:
    if operation is not None and operation.file is not None and request.content_type == "multipart/form-data":
        try:
            part = (await request.post()).get(operation.file)
        except ValueError as error:
            return Read(unreadable=f"Invalid multipart body: {error}")
        if isinstance(part, web.FileField):
            return Read(file=(part.filename, part.file.read()))
        return Read(not_a_file=part is not None)
    content = await request.read()
    if request.method in ("GET", "HEAD") or not content or request.content_type != "application/json":
        return Read()
    try:
        return Read(body=json.loads(content))
    except ValueError as error:
        return Read(unreadable=f"Invalid JSON: {error}")


def _note(request: web.Request, operation: Operation | None, read: Read, now: float) -> Request:
    secret = ("access_token", "jwt")
    return Request(
        operation=operation.name if operation else "",
        method=request.method,
        path=request.path,
        query={name: value for name, value in request.query.items() if name not in secret},
        headers={
            name.lower(): value for name, value in request.headers.items() if name.lower() != "authorization"
        },
        authorized="Authorization" in request.headers or any(name in request.query for name in secret),
        body=read.body,
        at=now,
    )


def _send(
    request: web.Request, answer: Answer, content_type: str = "application/json", **headers: str
) -> web.Response:
    content = answer.bytes()
    sent = {**HEADERS, **headers}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        content, sent["Content-Encoding"] = gzip.compress(content, 1), "gzip"
    return web.Response(
        status=answer.status, body=content, content_type=content_type, charset="utf-8", headers=sent
    )


def _spoilt(request: web.Request, fault: Fault, answer: Answer | None, rate_limit_type: str) -> web.Response:
    if fault.kind == "truncated":
        assert answer is not None
        whole = answer.bytes().decode()
        return _send(request, Answer(status=answer.status, body=None, text=whole[: max(1, len(whole) // 2)]))
    if fault.kind == "rate_limited":
        headers = {} if fault.retry_after is None else {"Retry-After": _retry_after(fault.retry_after)}
        return _send(request, refusal(Refused(429, rate_limit_type, "Too many requests")), **headers)
    if fault.kind == "redirect":
        return _send(request, Answer(status=302, body=None, text=""), "text/html", Location=fault.location)
    if fault.kind == "html":
        page = "<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"
        return _send(request, Answer(status=fault.status or 502, body=None, text=page), "text/html")
    if fault.kind == "unauthorized":
        return _send(request, refusal(Refused(401, "Unauthorized", "Invalid access token")))
    return _send(
        request, refusal(Refused(fault.status or 503, "InternalServer", "An internal error occurred"))
    )


def _retry_after(wanted: float | str) -> str:
    return wanted if isinstance(wanted, str) else f"{wanted:g}"


def _reset(request: web.Request) -> None:
    """Cut the connection with a TCP reset, as a crashed proxy does."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    # Lingering for zero seconds makes the kernel send RST instead of an orderly end.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
