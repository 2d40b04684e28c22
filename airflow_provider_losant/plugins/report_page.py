# SPDX-License-Identifier: Apache-2.0
"""
What the route of the link ``Open report`` responds, for both web frameworks of Airflow.

The path only says which task instance is meant. What is looked up at Losant, and with which connection, is in
the XCom that the task itself has pushed, and the response is a redirect to the URL that Losant has signed, or
a page in plain words. No part of a path, an XCom or an error of Losant becomes part of a page.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.errors import (
    JSON_ERRORS,
    Forbidden,
    LogIncomplete,
    LosantError,
    NotFound,
    OutputError,
    RateLimited,
    Unauthorized,
)
from airflow_provider_losant.api.fields import one_line
from airflow_provider_losant.api.flows.report import find_report_url
from airflow_provider_losant.api.flows.steps import Interrupted
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.plugins.lookup_limit import LookupLimit, TooManyLookups

if TYPE_CHECKING:
    from airflow_provider_losant.api.settings import Settings

MAX_LOOKUP = 20.0
"""Seconds for which a reader, and a thread of the web server, waits for Losant."""
REQUEST_TIMEOUT = 5.0
"""Seconds that a part of one request may take; the connection's ``timeout`` is meant for workers."""
_TRY_NUMBER = re.compile(r"[1-9]\d{0,8}", re.ASCII)
_MAP_INDEX = re.compile(r"-1|0|[1-9]\d{0,8}", re.ASCII)
_FIELDS = ("application_id", "notebook_id", "execution_id", "losant_conn_id", "try_number")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em }}</style></head>
<body><h1>{title}</h1><p>{text}</p></body>
</html>
"""

log = logging.getLogger(__name__)
limit = LookupLimit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response, for any web framework."""

    status: int
    headers: Mapping[str, str] = field(default_factory=lambda: _HEADERS)
    body: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which try of a task instance a path names; any of it may be made up."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: str
    try_number: str

    @classmethod
    def path(cls, placeholder: str) -> str:
        """
        Return the path of the route below the prefix, as :meth:`.LosantReportLink.offer` fills it.

        :param placeholder: How the web framework writes a part of a path.
        """
        return "/report/" + "/".join(placeholder % it.name for it in fields(cls))

    @property
    def is_possible(self) -> bool:
        """Whether the numbers of the task instance are numbers, and a database can be asked for its names."""
        is_text = "\0" not in self.dag_id + self.run_id + self.task_id  # which PostgreSQL's driver refuses
        are_numbers = _MAP_INDEX.fullmatch(self.map_index) and _TRY_NUMBER.fullmatch(self.try_number)
        return bool(is_text and are_numbers)


ReadXCom = Callable[[Place], Any]
"""Reads the XCom that :meth:`.LosantReportLink.offer` has pushed, without its backend if possible."""


class ReportUnavailable(Exception):
    """
    The report cannot be opened.

    :param status: The HTTP status of the page.
    :param text: What the page says.
    """

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class _ServerHook(LosantHook):
    """
    The hook in a web server: it waits for less time, and only takes a connection of this provider.

    Who may write XComs could otherwise have the password of any connection sent to the connection's host.
    """

    def _read_settings(self) -> Settings:
        settings = super()._read_settings()
        return replace(settings, timeout=min(settings.timeout, REQUEST_TIMEOUT), max_retries=0)

    def _settings_of(self, connection: Any, decoded: Any) -> Settings:
        if connection.conn_type != self.conn_type:
            raise LosantConfigError(f"Connection {self.losant_conn_id!r} is not of type {self.conn_type!r}")
        return super()._settings_of(connection, decoded)


def open_report(place: Place, user: str, read_xcom: ReadXCom) -> Response:
    """
    Redirect a reader to the report of a task instance.

    The caller has checked that the reader may read XComs of that DAG.

    :param user: Who opens it, for the bound on look-ups.
    """
    try:
        reference = _reference(place, read_xcom)
        with limit.admit(user):
            url = _look_up(reference)
    except ReportUnavailable as problem:
        return page(problem.status, problem.text)
    except TooManyLookups as error:
        retry_after = {"Retry-After": str(math.ceil(error.retry_after))}
        text = "Many reports have been opened within a short time. Try again in a minute."
        return page(HTTPStatus.TOO_MANY_REQUESTS, text, retry_after)
    except Exception as error:  # noqa: BLE001 - whatever a database or a secrets backend raises
        log.warning("A report could not be opened: %s", type(error).__name__)
        return page(HTTPStatus.BAD_GATEWAY, "The report could not be looked up.")
    return Response(status=HTTPStatus.FOUND, headers={**_HEADERS, "Location": url})


def page(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """
    Return a page.

    :param status: Its HTTP status, which is also its title.
    :param text: What it says: text of this project, as it is not escaped.
    """
    types = {"Content-Type": "text/html; charset=utf-8"}
    body = _PAGE.format(title=HTTPStatus(status).phrase, text=text)
    return Response(status=status, headers={**_HEADERS, **types, **(headers or {})}, body=body)


REFUSALS: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "Log in to Airflow, then open the report again.",
    HTTPStatus.FORBIDDEN: "You are not allowed to read the XComs of this DAG, which its reports belong to.",
    HTTPStatus.NOT_FOUND: "Airflow has no report here.",
    HTTPStatus.METHOD_NOT_ALLOWED: "A report can only be opened.",
}
"""What the page of each status says that does not need a look-up."""


def refusal(status: int) -> Response:
    """Return the page for a request that is refused, or that names nothing."""
    return page(status, REFUSALS.get(status, "The report could not be opened."))


def _reference(place: Place, read_xcom: ReadXCom) -> Mapping[str, str]:
    """
    Return what a try of a task instance has pushed about its report.

    :raises ReportUnavailable: there is no such try, or it has no report, or its XComs are those of a later
        try by now: the page is the same.
    """
    found = read_xcom(place) if place.is_possible else None
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except JSON_ERRORS:
            found = None
    pushed = found if isinstance(found, Mapping) else {}
    is_complete = all(isinstance(pushed.get(it), str) for it in _FIELDS)
    if not is_complete or pushed["try_number"] != place.try_number:
        raise ReportUnavailable(HTTPStatus.NOT_FOUND, REFUSALS[HTTPStatus.NOT_FOUND])
    return {name: pushed[name] for name in _FIELDS}


def _look_up(reference: Mapping[str, str]) -> str:
    """
    Return the signed URL of a report.

    :raises ReportUnavailable: there is none.
    """
    until = time.monotonic() + MAX_LOOKUP
    try:
        hook = _ServerHook(reference["losant_conn_id"], reference["application_id"])
        ref = hook.execution_ref(reference["notebook_id"], reference["execution_id"])
        may_be_http = hook.settings.base_url.startswith("http:")
        hook.client.is_interrupted = lambda: time.monotonic() > until
        try:
            return hook.client.run(find_report_url(ref, retries=0, may_be_http=may_be_http))
        finally:
            hook.client.close()
    except Interrupted:
        raise ReportUnavailable(HTTPStatus.BAD_GATEWAY, _TOO_SLOW) from None
    except Exception as error:  # noqa: BLE001 - whatever a secrets backend raises
        # Neither the message of a stranger's exception nor a traceback: either may hold a secret.
        known = one_line(error) if isinstance(error, LosantError | LosantConfigError) else ""
        log.warning("A report could not be looked up: %s %s", type(error).__name__, known)
        raise _unavailable(error) from None


_TOO_SLOW = "Losant took too long to respond. Try again later."
_GONE = "Losant no longer has this report: the notebook, its execution or the output has been deleted."
_BAD_TOKEN = "Losant refuses the API token of the connection that the task used; it may have expired."  # noqa: S105 - no password
_CONNECTION = "Airflow's web server cannot use the connection to Losant that the task used."
_UNREACHABLE = "Airflow's web server gets no usable response from Losant. It may not be allowed to reach it."


def _unavailable(error: Exception) -> ReportUnavailable:
    if isinstance(error, NotFound | OutputError):
        return ReportUnavailable(HTTPStatus.NOT_FOUND, _GONE)
    text = _CONNECTION
    if isinstance(error, Unauthorized | Forbidden):
        text = _BAD_TOKEN
    elif isinstance(error, RateLimited | LogIncomplete):
        text = _TOO_SLOW
    elif isinstance(error, LosantError):
        text = _UNREACHABLE
    return ReportUnavailable(HTTPStatus.BAD_GATEWAY, text)
