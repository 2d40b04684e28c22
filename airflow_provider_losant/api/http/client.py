# SPDX-License-Identifier: Apache-2.0
"""Run flows with blocking I/O, in workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError

from airflow_provider_losant.api.endpoints import Call
from airflow_provider_losant.api.errors import (
    Forbidden,
    InvalidArgument,
    LosantError,
    OutputError,
    ResponseError,
    TransportError,
    Unauthorized,
)
from airflow_provider_losant.api.flows.steps import Fetch, Interrupted, Log, LogLine, Sleep, Tail
from airflow_provider_losant.api.http.connection import hide_queries, transmission
from airflow_provider_losant.api.http.decoding import ACCEPT_ENCODING, CHUNK_SIZE, GzipDecoder, ResponseBody
from airflow_provider_losant.api.http.failures import REFRESH_FAILED, describe, transport_error
from airflow_provider_losant.api.http.multipart import MultipartStream
from airflow_provider_losant.api.http.network import Network
from airflow_provider_losant.api.http.observed import OnRequest, observed
from airflow_provider_losant.api.http.response import (
    MAX_REDIRECTS,
    check_file,
    has_end,
    is_redirect,
    parse_response,
)
from airflow_provider_losant.api.http.session import Session

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import FileFlow, Flow, Sink, Step
    from airflow_provider_losant.api.settings import Settings

T = TypeVar("T")

SLEEP_SLICE = 0.5
"""Seconds of sleep between calls of ``is_interrupted``."""


class Client:
    """
    Runs flows over one connection pool.

    :param settings: Host, token, timeout and TLS.
    :param log: Gets the flows' log lines: a logger's ``log``.
    :param refresh: Reads the settings again after 401 or 403, because the token may have been rotated.
    :param on_request: Gets the outcome of each request.
    :param network: The proxies and certificate authorities, if they have been read.
    :ivar is_interrupted: Returns whether to stop the flow that runs; called at each step, and at least every
        half second of a pause.
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        refresh: Callable[[], Settings] | None = None,
        network: Network | None = None,
        on_request: OnRequest | None = None,
    ) -> None:
        self.settings = settings
        self.is_interrupted: Callable[[], bool] = lambda: False
        self._log = log
        self._refresh = refresh
        self._send_observed = observed(self._send, on_request)
        self._network = network or Network(verify=settings.verify)
        self._session: Session | None = None
        self._base_url = ""
        self._handlers: Mapping[type, Callable[[Any], Any]] = {
            Call: self._call,
            Sleep: self._sleep,
            LogLine: self._write,
            Tail: self._tail,
            Fetch: self._fetch,
        }

    def run(self, flow: Flow[T] | FileFlow[T]) -> T:
        """
        Run a flow to its end, and return its result.

        :raises LosantError: an error that the flow does not handle.
        :raises Interrupted: ``is_interrupted`` returned true.
        """
        advance: Callable[[], Step | Fetch] = partial(next, flow)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # a generator's value is untyped at run time
            # Log lines are still written, because the next step may return an id that must be stored.
            if self.is_interrupted() and not isinstance(step, LogLine):
                raise Interrupted
            try:
                advance = partial(flow.send, self._handlers[type(step)](step))
            except LosantError as error:
                advance = partial(flow.throw, error)

    @property
    def session(self) -> Session:
        """
        The session for Losant's API, with the token.

        :raises InvalidArgument: the environment's proxy or CA bundle cannot be used.
        """
        if self._session is None:
            self._session = Session(self.settings, self._network.route_to(self.settings.base_url))
            # As requests writes it, for example with a host name of other letters than ASCII.
            self._base_url = str(requests.Request("GET", self.settings.base_url).prepare().url).rstrip("/")
            self._session.headers.update(
                {
                    "Accept": "application/json",
                    "Accept-Encoding": ACCEPT_ENCODING,
                    "Authorization": f"Bearer {self.settings.token}",
                }
            )
        return self._session

    def copy(self, *, timeout: float) -> Client:
        """Return an unobserved client with own connections, made without reading anything (for a kill)."""
        return Client(replace(self.settings, timeout=timeout), self._log, network=self._network)

    def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _sleep(self, sleep: Sleep) -> None:
        until = time.monotonic() + sleep.seconds
        while not self.is_interrupted() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SLEEP_SLICE))

    def _write(self, line: LogLine) -> None:
        self._log(line.level, "%s", line.text)

    def _call(self, call: Call[T]) -> T:
        try:
            return self._send_observed(call)
        except (Unauthorized, Forbidden) as error:
            if not self._has_other_token(error):
                raise
        return self._send_observed(call)

    def _has_other_token(self, refusal: ResponseError) -> bool:
        """Read the settings again; return whether there is another token than the refused one."""
        if self._refresh is None:
            return False
        try:
            refreshed = self._refresh()
        except Exception as problem:  # noqa: BLE001 - whatever a secrets backend raises
            refusal.is_transient = True  # there may be another token
            self._log(logging.WARNING, REFRESH_FAILED, type(problem).__name__)
            return False
        if refreshed.token == self.settings.token:
            return False
        self.close()
        self.settings, self._network = refreshed, Network(verify=refreshed.verify)
        return True

    def _send(self, call: Call[T]) -> T:
        session = self.session
        with ExitStack() as stack:
            form = None
            if call.upload is not None:
                form = MultipartStream(stack.enter_context(call.upload.open("rb")), call.upload.name)
            request = stack.enter_context(transmission())
            try:
                response = session.get_adapter(self._base_url).send(
                    self._prepare(call, form),
                    timeout=self.settings.timeout,
                    stream=True,
                    proxies=session.proxies,
                    verify=session.verify is not False,
                )
                with response:
                    body = self._body(call, response)
            except _ERRORS as error:
                where = f"{call.operation} at {self.settings.base_url}"
                raise transport_error(where, error, is_begun=request.is_begun) from None
        return parse_response(call, response.status_code, response.headers, body)

    def _prepare(self, call: Call[Any], form: MultipartStream | None) -> requests.PreparedRequest:
        """Prepare a request; ``Session.request`` takes a third of a call to merge settings."""
        prepared = requests.PreparedRequest()
        prepared.method = call.method
        prepared.url = self._base_url + call.path + (f"?{urlencode(call.query)}" if call.query else "")
        prepared.headers = CaseInsensitiveDict(self.session.headers)  # type: ignore[arg-type]  # all are text
        prepared.prepare_body(form, None, call.json)
        if form is not None:
            prepared.headers["Content-Type"] = form.content_type
        return prepared

    def _body(self, call: Call[Any], response: requests.Response) -> bytes:
        """Read a response body within ``timeout``, counted anew from its start."""
        until = time.monotonic() + self.settings.timeout
        body = ResponseBody(call.operation, response.headers)
        for piece in iter_raw(response):
            body.feed(piece)
            if time.monotonic() > until:
                raise TimeoutError
        return body.finish()

    def _tail(self, tail: Tail) -> str:
        until = time.monotonic() + self.settings.timeout
        body = b""
        with self._open_file(tail.url, Range=f"bytes=-{tail.limit}") as response:
            if not has_end(response.status_code):
                return ""
            for piece in iter_decoded(response):
                # A host that ignores Range sends the whole file, which may exceed the memory.
                body = (body + piece)[-tail.limit :]
                if time.monotonic() > until:
                    raise TransportError("the file host was too slow")
        return body.decode(errors="replace")

    def _fetch(self, fetch: Fetch) -> int:
        with self._open_file(fetch.url) as response:
            check_file(response.status_code)
            with fetch.open_sink() as sink:
                return self._copy(response, fetch, sink)

    def _copy(self, response: requests.Response, fetch: Fetch, sink: Sink) -> int:
        received = 0
        for piece in iter_decoded(response):
            if self.is_interrupted():
                raise Interrupted
            received += len(piece)
            if fetch.limit is not None and received > fetch.limit:
                raise OutputError(f"the file has more than {fetch.limit:,} bytes")
            if fetch.size is not None and min(received, response.raw.tell()) > fetch.size:
                break
            sink.write(piece)
        # The size is that of the compressed bytes if the file is stored compressed, else of the content.
        if fetch.size not in {None, received, response.raw.tell()}:
            raise TransportError(f"the file host sent {received:,} of {fetch.size:,} bytes")
        return received

    def _open_file(self, url: str, **headers: str) -> requests.Response:
        """Request a file by its signed URL, without the token, and without the URL in any log."""
        try:
            for _ in range(MAX_REDIRECTS):
                response = self._get_file(url, headers)
                if not is_redirect(response.status_code, response.headers):
                    return response
                response.close()
                url = urljoin(url, response.headers["Location"])
        except InvalidArgument:
            raise  # of the route; it is a ValueError too
        except _ERRORS as error:
            raise TransportError(f"the file host did not respond ({describe(error)})") from None
        raise TransportError(f"the file host redirected {MAX_REDIRECTS} times in a row")

    def _get_file(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        hide_queries(urlsplit(url).hostname or url)
        with Session(self.settings, self._network.route_to(url)) as session:
            return session.get(
                url,
                headers={"Accept-Encoding": "identity", **headers},
                timeout=self.settings.timeout,
                stream=True,
            )


def iter_raw(response: requests.Response) -> Iterator[bytes]:
    """Yield a body's bytes as they arrive, without waiting for a full chunk."""
    return iter(partial(response.raw.read1, CHUNK_SIZE, decode_content=False), b"")


def iter_decoded(response: requests.Response) -> Iterator[bytes]:
    """Yield a file's decoded content; errors of requests contain the URL and are replaced."""
    decoder = GzipDecoder(response.headers)
    try:
        for received in iter_raw(response):
            yield from decoder.feed(received)
    except _ERRORS as error:
        raise TransportError(f"the download from the file host broke off ({type(error).__name__})") from None
    decoder.finish()


_ERRORS = (OSError, HTTPError, ValueError)
"""OSError covers the errors of requests, which lets the others through."""
