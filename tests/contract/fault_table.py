# SPDX-License-Identifier: Apache-2.0
"""
The guaranteed outcome of every kind of request in every fault; ``test_fault_table.py`` checks it.

``python -m tests.contract.fault_table`` prints it as the Markdown table in ``docs/project/fault-table.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal

from airflow_provider_losant.api.errors import (
    LosantError,
    NotLosantApi,
    ProtocolError,
    RateLimited,
    ResponseError,
    ResponseTooLarge,
    ServerError,
    TlsError,
    TransportError,
    Unauthorized,
)
from airflow_provider_losant.emulator import Fault

Place = Literal["closed port", "untrusted certificate", "unknown host"]

NOW = 1_800_000_000.0
"""Epoch seconds at which every test begins; time passes only in a ``Sleep``."""
ASKED_FOR = 7.0
"""Seconds in the ``Retry-After`` header."""
TIMEOUT = 0.15
"""Seconds after which a response is too late, in tests about that."""
MOST = 1_000_000
"""Bytes after which a response is too large in these tests."""


@dataclass(frozen=True, slots=True)
class Promise:
    """
    The outcome of a request.

    :param attempts: How often it is sent; 0 means the number of retries plus one.
    :param error: What is raised, if anything is.
    """

    said: str
    attempts: int = 1
    error: type[LosantError] | None = None


DONE = Promise("succeeds")
AGAIN = Promise("sent again, then succeeds", 2)
LATER = Promise("sent again after `Retry-After`, then succeeds", 2)
ADOPTED = Promise("searched for, found: reconnects")
SOUGHT = Promise("searched for, not found: submitted again", 2)
LOOKED = Promise("polled again, wait continues", 2)
LEFT = Promise("fails at once, execution not cancelled")
LONG_LEFT = Promise("fails after `max_poll_outage`, execution not cancelled", 0)
WATCHED = Promise("waits until its deadline, logs one warning")
FRESH = Promise("new URL requested, then succeeds", 2)
READ = Promise("read, at most 4,000 bytes")
OMITTED = Promise("left out, logs one warning")


def at_once(error: type[LosantError]) -> Promise:
    """Promise an error after one attempt."""
    return Promise(f"raises `{error.__name__}` at once", 1, error)


def in_vain(error: type[LosantError]) -> Promise:
    """Promise an error after all retries."""
    return Promise(f"sent again, then raises `{error.__name__}`", 0, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    A fault, and the outcome of each kind of request that meets it once.

    :param fault: What the emulator does with a request.
    :param place: Where the request goes instead, if there is no Losant.
    :param switches: Switches of the emulator.
    :param safe: Idempotent requests: get, update, delete, cancel, upload.
    :param creating: Requests that create something each time.
    :param export: Requesting an export, of which Losant allows one in 15 minutes.
    :param start: A task that submits its execution.
    :param start_fault: The fault of the submission, where it differs from ``fault``.
    :param wait: A poll while a task waits.
    :param file: Downloading an output. None: the fault cannot occur there.
    :param tail: Reading the end of the error log of a failed execution.
    """

    name: str
    fault: Fault | None = None
    place: Place | None = None
    switches: Mapping[str, Any] = field(default_factory=dict)
    safe: Promise | None = None
    creating: Promise | None = None
    export: Promise | None = None
    start: Promise | None = None
    start_fault: Fault | None = None
    wait: Promise | None = None
    file: Promise | None = None
    tail: Promise | None = None


COLUMNS = {
    "safe": "get, update, delete, cancel, upload",
    "creating": "create a notebook; execute with the hook",
    "export": "request an export",
    "start": "submission of a task",
    "wait": "poll of a waiting task",
    "file": "download of an output",
    "tail": "end of the error log",
}
BEHIND, AHEAD = {"clock_skew": -600.0}, {"clock_skew": 600.0}


def _passing(name: str, fault: Fault, **more: Any) -> Row:
    """Describe a fault in which Losant itself reports that it did nothing."""
    outcomes = {"safe": AGAIN, "creating": AGAIN, "export": AGAIN, "start": AGAIN, "wait": LOOKED}
    return Row(name=name, fault=fault, **outcomes | {"file": AGAIN, "tail": OMITTED} | more)


def _limited(name: str, after: float | str | None, **more: Any) -> Row:
    """Describe a rate limit; an export is left to Airflow's retry, because the pause may be long."""
    again = AGAIN if after is None else LATER
    outcomes = {"safe": again, "creating": again, "start": again, "export": at_once(RateLimited)}
    return _passing(name, Fault("rate_limited", retry_after=after), **outcomes | more)


def _unclear(name: str, fault: Fault, error: type[LosantError], start: Promise, **more: Any) -> Row:
    """Describe a fault after which it is unknown whether Losant processed the request."""
    outcomes = {"safe": AGAIN, "creating": at_once(error), "export": at_once(error), "start": start}
    return Row(name=name, fault=fault, **outcomes | {"wait": LOOKED, "file": AGAIN, "tail": OMITTED} | more)


def _final(name: str, fault: Fault, error: type[LosantError], **more: Any) -> Row:
    """Describe a response that another attempt would not change."""
    outcomes = dict.fromkeys(("safe", "creating", "export", "start"), at_once(error))
    return Row(name=name, fault=fault, **outcomes | {"wait": LEFT, "tail": OMITTED} | more)


def _harmless(name: str, fault: Fault | None, **more: Any) -> Row:
    """Describe a fault that changes nothing."""
    outcomes = dict.fromkeys(("safe", "creating", "export", "start", "wait"), DONE)
    return Row(name=name, fault=fault, **outcomes | more)


def _away(name: str, place: Place) -> Row:
    """Describe a place that cannot be reached."""
    vain = in_vain(TransportError)
    outcomes: dict[str, Any] = dict.fromkeys(("safe", "creating", "export", "start", "file"), vain)
    return Row(name=name, place=place, **outcomes, wait=LONG_LEFT, tail=OMITTED)


def _date(skew: float = 0.0) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + skew + ASKED_FOR, UTC), usegmt=True)


_SLOW: dict[str, Any] = {"seconds": 4 * TIMEOUT}
_UNTRUSTED: dict[str, Any] = dict.fromkeys(("safe", "creating", "export", "start"), at_once(TlsError))

# fmt: off
TABLE = [
    _limited("429, `Retry-After` in seconds", ASKED_FOR),
    _limited("429, `Retry-After` as a date", _date()),
    _limited("429, date, Losant's clock 10 min slow", _date(-600.0), switches=BEHIND),
    _limited("429, date, Losant's clock 10 min fast", _date(600.0), switches=AHEAD),
    _limited("429 without `Retry-After`", None),
    _unclear("408", Fault("server_error", status=408), ResponseError, SOUGHT),
    _passing("425", Fault("server_error", status=425)),
    _unclear("500", Fault("server_error", status=500), ServerError, SOUGHT),
    _unclear("500, but processed", Fault("server_error", status=500, processed=True), ServerError, ADOPTED),
    _unclear("502 with an HTML page", Fault("html"), ServerError, SOUGHT),
    _unclear("503", Fault("server_error"), ServerError, SOUGHT),
    _unclear("unknown status 599", Fault("server_error", status=599), ServerError, SOUGHT),
    _final("unknown status 418", Fault("server_error", status=418), ResponseError, file=FRESH),
    _final("401", Fault("unauthorized"), Unauthorized, wait=LOOKED, file=FRESH),
    _final(
        "200 with an HTML page", Fault("html", status=200), NotLosantApi,
        start=SOUGHT, wait=LOOKED, file=AGAIN, tail=READ,
    ),
    _final(
        "redirect to another host", Fault("redirect"), NotLosantApi,
        wait=LOOKED, file=Promise("followed, without the token"), tail=READ,
    ),
    _unclear("truncated JSON", Fault("truncated"), ProtocolError, ADOPTED, tail=READ),
    _unclear("empty body", Fault("empty"), ProtocolError, ADOPTED, tail=READ),
    _unclear("JSON of the wrong shape", Fault("wrong_shape"), ProtocolError, ADOPTED, file=None, tail=None),
    _harmless("wrong content type", Fault("wrong_content_type"), file=DONE, tail=READ),
    _harmless("unknown fields", Fault("extra_fields")),
    _harmless("optional fields missing", Fault("missing_fields")),
    _harmless("slow response", Fault("slow", seconds=0.02), file=DONE, tail=READ),
    _harmless("slow body", Fault("slow_body", seconds=0.02), file=DONE, tail=READ),
    _unclear(
        "body slower than `timeout`", Fault("slow_body", **_SLOW), TransportError, ADOPTED, file=DONE,
    ),
    _unclear("no response", Fault("hang", **_SLOW), TransportError, SOUGHT),
    _unclear("no response, but processed", Fault("hang", processed=True, **_SLOW), TransportError, ADOPTED),
    _unclear("connection reset, not processed", Fault("reset_before"), TransportError, SOUGHT),
    _unclear("connection reset, but processed", Fault("reset_after"), TransportError, ADOPTED),
    _final(
        "gzip bomb", Fault("gzip_bomb", size=2 * MOST), ResponseTooLarge,
        start=SOUGHT, wait=LOOKED, file=AGAIN, tail=READ,
    ),
    _final(
        "endless body", Fault("endless", seconds=5), ResponseTooLarge,
        start=SOUGHT, wait=LOOKED, file=AGAIN,
    ),
    _away("closed port", "closed port"),
    _away("host name that cannot be resolved", "unknown host"),
    Row(
        name="untrusted certificate", place="untrusted certificate",
        **_UNTRUSTED, wait=LEFT, file=in_vain(TransportError), tail=OMITTED,
    ),
    _harmless(
        "Losant's clock 10 min slow", None, switches=BEHIND,
        start=ADOPTED, start_fault=Fault("reset_after"), file=DONE, tail=READ,
    ),
    _harmless(
        "Losant's clock 10 min fast", None, switches=AHEAD,
        start=ADOPTED, start_fault=Fault("reset_after"), file=DONE, tail=READ,
    ),
    Row(
        name="execution log lags by 30 s", switches={"listing_lag": 30.0},
        safe=DONE, creating=DONE, export=DONE,
        start=ADOPTED, start_fault=Fault("reset_after"), wait=Promise("polled again, wait continues", 3),
    ),
    Row(name="unknown execution status", wait=WATCHED),
]
# fmt: on


def markdown() -> str:
    """Return the table in Markdown."""
    lines = [f"| Fault, once | {' | '.join(COLUMNS.values())} |", f"|---{'|---' * len(COLUMNS)}|"]
    for row in TABLE:
        cells = [getattr(row, column) for column in COLUMNS]
        lines.append(f"| {row.name} | {' | '.join(it.said if it else '' for it in cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
