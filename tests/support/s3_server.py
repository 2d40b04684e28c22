# SPDX-License-Identifier: Apache-2.0
"""A local S3 on loopback: moto's server, which can refuse single requests. Needs the extra moto."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import unquote
from uuid import uuid4

import boto3
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

REGION = "eu-central-1"
ERRORS = {
    "AccessDenied": (403, "Access Denied"),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "SlowDown": (503, "Please reduce your request rate."),
}
"""HTTP status and message of some of S3's error codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Request:
    """
    A request that the server received.

    :param kind: What it does: ``put``, ``copy``, ``head``, ``get``, ``delete``, or for a multipart upload
        ``create``, ``part``, ``complete``, ``abort``.
    :param key: The object, with its bucket.
    """

    kind: str
    key: str
    is_signed: bool

    @classmethod
    def of(cls, environ: dict[str, Any]) -> S3Request:
        """Read a request of WSGI."""
        method, query = environ["REQUEST_METHOD"], environ["QUERY_STRING"]
        kind = method.lower()
        if method == "POST":
            kind = "create" if query.startswith("uploads") else "complete"
        elif "uploadId" in query:
            kind = "part" if method == "PUT" else "abort"
        elif "HTTP_X_AMZ_COPY_SOURCE" in environ:
            kind = "copy"
        return cls(
            kind=kind,
            key=unquote(environ["PATH_INFO"].lstrip("/")),
            is_signed="HTTP_AUTHORIZATION" in environ,
        )


class S3Server:
    """An S3 that runs while a ``with`` block lasts. Like AWS, it refuses requests without credentials."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = Lock()
        self._faults: list[tuple[str, str]] = []
        self.requests: list[S3Request] = []

    def __enter__(self) -> Self:
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", 0, self._respond, threaded=True, request_handler=_SilentHandler
        )
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def add_bucket(self, name: str | None = None) -> str:
        """Create a bucket, and return its name; by default one that no other test has."""
        name = name or f"reports-{uuid4().hex}"
        self.client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def fail(self, kind: str, code: str, times: int = 1) -> None:
        """
        Refuse the next requests of a kind.

        :param code: One of S3's error codes in :data:`ERRORS`.
        """
        self._faults += [(kind, code)] * times

    def reset(self) -> None:
        """Forget the faults that have not occurred, and the requests."""
        self._faults.clear()
        self.requests.clear()

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Return the content of each object by its key."""
        listed = self.client.list_objects_v2(Bucket=bucket).get("Contents", ())
        keys = [it["Key"] for it in listed]
        return {key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def unfinished_uploads(self, bucket: str) -> list[str]:
        """Return the keys of multipart uploads that were neither completed nor aborted."""
        return [it["Key"] for it in self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]

    def _respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = S3Request.of(environ)
        with self._lock:
            self.requests.append(request)
            fault = next((it for it in self._faults if it[0] == request.kind), None)
            if fault is not None:
                self._faults.remove(fault)
        code = "AccessDenied" if not request.is_signed else fault[1] if fault else None
        if code is None:
            response: Iterable[bytes] = self._moto(environ, start_response)
            return response
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # so that the client reads on
        status, message = ERRORS[code]
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        head = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        start_response(f"{status} {code}", head)
        return [b"" if request.kind == "head" else body]


class _SilentHandler(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Write no access log, which would be part of the task log."""
