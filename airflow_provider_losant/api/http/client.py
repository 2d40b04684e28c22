# SPDX-License-Identifier: Apache-2.0
"""Run flows with blocking I/O, in workers. The only module that imports ``requests``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError

from airflow_provider_losant.api.endpoints import Call
from airflow_provider_losant.api.errors import (
    FileAccessDenied,
    LosantError,
    OutputError,
    TlsError,
    TransportError,
    Unauthorized,
    is_transient_status,
)
from airflow_provider_losant.api.flows.steps import Fetch, Interrupted, Log, LogLine, Sleep, Tail
from airflow_provider_losant.api.http.decoding import ACCEPT_ENCODING, CHUNK_SIZE, GzipDecoder, ResponseBody
from airflow_provider_losant.api.http.multipart import MultipartStream
from airflow_provider_losant.api.http.response import is_success, parse_response

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import FileFlow, Flow, Sink, Step
    from airflow_provider_losant.api.settings import Settings

T = TypeVar("T")

MAX_REDIRECTS = 5
"""Requests for one file, each after the first caused by a redirect."""
SLEEP_SLICE = 0.5
"""Seconds of sleep between checks of ``is_interrupted``, which a signal handler may set."""


class _Bearer(AuthBase):
    """An explicit auth object: without one, a ``.netrc`` entry would replace the token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Session(requests.Session):
    """A session that does not follow redirects; that of requests reads their bodies without a size limit."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class Client:
    """
    Runs flows over one connection pool.

    :param settings: Host, token, timeout and TLS.
    :param log: Gets the flows' log lines: a logger's ``log``.
    :param refresh: Reads the settings again after Losant returned 401: the token may have been rotated.
    :ivar is_interrupted: Set it, for instance in a signal handler, to stop the flow that runs.
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        refresh: Callable[[], Settings] | None = None,
    ) -> None:
        self.settings = settings
        self.session = new_session(settings)
        self.is_interrupted = False
        self._log = log
        self._refresh = refresh
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
        :raises Interrupted: ``is_interrupted`` was set (by a signal handler) while it ran.
        """
        advance: Callable[[], Step | Fetch] = partial(next, flow)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # a generator's value is untyped at run time
            # Log lines are still written, because the next step may return an id that must be stored.
            if self.is_interrupted and not isinstance(step, LogLine):
                raise Interrupted
            try:
                advance = partial(flow.send, self._handlers[type(step)](step))
            except LosantError as error:
                advance = partial(flow.throw, error)

    def close(self) -> None:
        """Close the pool."""
        self.session.close()

    def _sleep(self, sleep: Sleep) -> None:
        until = time.monotonic() + sleep.seconds
        while not self.is_interrupted and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SLEEP_SLICE))

    def _write(self, line: LogLine) -> None:
        self._log(line.level, "%s", line.text)

    def _call(self, call: Call[T]) -> T:
        try:
            return self._send(call)
        except Unauthorized:
            if self._refresh is None:
                raise
            refreshed = self._refresh()
            if refreshed.token == self.settings.token:
                raise
            self.session.close()
            self.settings, self.session = refreshed, new_session(refreshed)
            return self._send(call)

    def _send(self, call: Call[T]) -> T:
        with ExitStack() as stack:
            form = None
            if call.upload is not None:
                form = MultipartStream(stack.enter_context(call.upload.open("rb")), call.upload.name)
            try:
                response = self.session.request(
                    call.method,
                    self.settings.base_url + call.path,
                    params=dict(call.query),
                    json=call.json,
                    data=form,
                    headers=None if form is None else {"Content-Type": form.content_type},
                    timeout=self.settings.timeout,
                    # Passed here as well, because REQUESTS_CA_BUNDLE overrides the session's value.
                    verify=self.settings.ca_bundle,
                    stream=True,
                )
                with response:
                    body = self._body(call, response)
            except _ERRORS as error:
                raise to_transport_error(call.operation, self.settings.base_url, error) from None
        return parse_response(call, response.status_code, response.headers, body)

    def _body(self, call: Call[Any], response: requests.Response) -> bytes:
        """Read a response body within ``timeout``, counted anew from its start."""
        until = time.monotonic() + self.settings.timeout
        body = ResponseBody(call.operation, response.headers)
        for piece in iter_raw(response):
            body.feed(piece)
            if time.monotonic() > until:
                raise requests.Timeout
        return body.finish()

    def _tail(self, tail: Tail) -> str:
        until = time.monotonic() + self.settings.timeout
        body = b""
        with self._open_file(tail.url, Range=f"bytes=-{tail.limit}") as response:
            if not is_success(response.status_code):
                raise TransportError(f"the file host returned {response.status_code}")
            for piece in iter_decoded(response):
                # A host that ignores Range sends the whole file, which may exceed the memory.
                body = (body + piece)[-tail.limit :]
                if time.monotonic() > until:
                    raise TransportError("the file host was too slow")
        return body.decode(errors="replace")

    def _fetch(self, fetch: Fetch) -> int:
        with self._open_file(fetch.url) as response:
            if not is_success(response.status_code):
                error = TransportError if is_transient_status(response.status_code) else FileAccessDenied
                raise error(f"the file host returned {response.status_code}")
            with fetch.open_sink() as sink:
                return self._copy(response, fetch, sink)

    def _copy(self, response: requests.Response, fetch: Fetch, sink: Sink) -> int:
        received = 0
        for piece in iter_decoded(response):
            if self.is_interrupted:
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
                if not response.is_redirect:
                    return response
                response.close()
                url = urljoin(url, response.headers["Location"])
        except _ERRORS as error:
            raise TransportError(f"the file host did not respond ({type(error).__name__})") from None
        raise TransportError(f"the file host redirected {MAX_REDIRECTS} times in a row")

    def _get_file(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        _SIGNED_HOSTS.add(urlsplit(url).hostname)
        with _Session() as session:
            return session.get(
                url,
                headers={"User-Agent": self.settings.user_agent, "Accept-Encoding": "identity", **headers},
                auth=_no_auth,
                timeout=self.settings.timeout,
                verify=self.settings.ca_bundle,
                stream=True,
            )


_SIGNED_HOSTS: set[str | None] = set()


def _hide_signature(record: logging.LogRecord) -> bool:
    """Remove the query from urllib3's debug log of a request to a file host."""
    if isinstance(record.args, tuple) and len(record.args) > 1 and record.args[1] in _SIGNED_HOSTS:
        record.args = tuple(it.partition("?")[0] if isinstance(it, str) else it for it in record.args)
    return True


logging.getLogger("urllib3.connectionpool").addFilter(_hide_signature)


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


def new_session(settings: Settings) -> requests.Session:
    """Return a session with the token, the CA bundle and the default headers."""
    session = _Session()
    session.auth = _Bearer(settings.token)
    session.verify = settings.ca_bundle
    session.headers.update(
        {"Accept": "application/json", "Accept-Encoding": ACCEPT_ENCODING, "User-Agent": settings.user_agent}
    )
    return session


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no authentication; passing it keeps requests from using ``.netrc``."""
    return request


_ERRORS = (OSError, HTTPError, ValueError)
"""OSError covers the errors of requests and an unreadable CA bundle; requests lets the others through."""

_NOT_SENT = (
    requests.exceptions.ConnectTimeout,
    requests.exceptions.ProxyError,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidJSONError,
    ValueError,  # the request could not be built
)


def to_transport_error(operation: str, base_url: str, error: Exception) -> TransportError:
    """Describe an error of requests' without the request, because its headers contain the token."""
    where = f"{operation} at {base_url}"
    if isinstance(error, requests.exceptions.SSLError):
        return TlsError(f"{where}: the server's certificate was not accepted ({_cause(error)})")
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(error, _NOT_SENT) or isinstance(reason, NewConnectionError):
        return TransportError(f"{where}: no connection ({_cause(error)})", was_sent=False)
    if isinstance(error, requests.exceptions.Timeout | ReadTimeoutError):
        return TransportError(f"{where}: no response in time")
    if isinstance(error, requests.RequestException | HTTPError):
        return TransportError(f"{where}: the connection broke ({type(error).__name__})")
    return TlsError(f"{where}: verify is not a readable CA bundle")


def _cause(error: BaseException) -> str:
    """Return the innermost reason, which is the most specific."""
    inner: Any = error
    while nested := getattr(inner, "reason", None) or (inner.args and inner.args[0]):
        if not isinstance(nested, BaseException):
            break
        inner = nested
    return str(inner).rpartition(": ")[2]
