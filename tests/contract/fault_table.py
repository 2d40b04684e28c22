# SPDX-License-Identifier: Apache-2.0
"""
What is promised for every kind of call in every fault; ``test_fault_table.py`` holds the provider to it.

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
"""Epoch seconds at which every story begins; time passes only where somebody sleeps."""
ASKED_FOR = 7.0
"""Seconds that Losant asks to be left alone for."""
TIMEOUT = 0.15
"""Seconds after which an answer is too late, where it is to be."""
MOST = 1_000_000
"""Bytes after which an answer is too long in these stories."""


@dataclass(frozen=True, slots=True)
class Promise:
    """
    What becomes of a call.

    :param attempts: How often it is made; 0 stands for as often as there are retries, and one more.
    :param error: What it ends in, if it does.
    """

    said: str
    attempts: int = 1
    error: type[LosantError] | None = None


DONE = Promise("done")
AGAIN = Promise("repeated, then done", 2)
LATER = Promise("repeated when Losant said, then done", 2)
ADOPTED = Promise("searched for, found and adopted")
SOUGHT = Promise("searched for, not there, placed again", 2)
LOOKED = Promise("looked at again, waited on", 2)
LEFT = Promise("given up at once, the run left alone")
LONG_LEFT = Promise("given up after `max_poll_outage`, the run left alone", 0)
WATCHED = Promise("waited for to its deadline, with one warning")
FRESH = Promise("a fresh address, then done", 2)
READ = Promise("read, 4,000 bytes at the most")
OMITTED = Promise("left out, with one warning")


def at_once(error: type[LosantError]) -> Promise:
    """Promise an error after one attempt."""
    return Promise(f"`{error.__name__}` at once", 1, error)


def in_vain(error: type[LosantError]) -> Promise:
    """Promise an error after all retries."""
    return Promise(f"repeated, then `{error.__name__}`", 0, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    A fault, and what becomes of each kind of call that meets it once.

    :param fault: What the local Losant does to a request.
    :param place: Where the request goes instead, as there is no Losant.
    :param switches: How the local Losant is set.
    :param safe: Reads, changes, deletes, cancels, uploads.
    :param creating: What makes something new each time.
    :param export: Asking for an export, of which Losant allows one in a quarter of an hour.
    :param start: A task starting its run.
    :param start_fault: What the order meets where that is another fault, to show what the row is about.
    :param wait: A look at the log, while a task waits.
    :param file: Fetching an output file. None: the fault cannot be there.
    :param tail: Reading the end of the error log of a run that failed.
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
    "safe": "reads, changes, deletes, cancels, uploads",
    "creating": "making a notebook; starting a run from a hook",
    "export": "asking for an export",
    "start": "a task starting its run",
    "wait": "a look while a task waits",
    "file": "fetching a file",
    "tail": "reading an error log",
}
BEHIND, AHEAD = {"clock_skew": -600.0}, {"clock_skew": 600.0}


def _passing(name: str, fault: Fault, **more: Any) -> Row:
    """Tell of a fault of which Losant itself says that nothing was done."""
    told = {"safe": AGAIN, "creating": AGAIN, "export": AGAIN, "start": AGAIN, "wait": LOOKED}
    return Row(name=name, fault=fault, **told | {"file": AGAIN, "tail": OMITTED} | more)


def _limited(name: str, after: float | str | None, **more: Any) -> Row:
    """Tell of being asked to come back later; an export is left to Airflow, as it may be long."""
    again = AGAIN if after is None else LATER
    told = {"safe": again, "creating": again, "start": again, "export": at_once(RateLimited)}
    return _passing(name, Fault("rate_limited", retry_after=after), **told | more)


def _unclear(name: str, fault: Fault, error: type[LosantError], start: Promise, **more: Any) -> Row:
    """Tell of a fault after which nobody knows whether anything was done."""
    told = {"safe": AGAIN, "creating": at_once(error), "export": at_once(error), "start": start}
    return Row(name=name, fault=fault, **told | {"wait": LOOKED, "file": AGAIN, "tail": OMITTED} | more)


def _final(name: str, fault: Fault, error: type[LosantError], **more: Any) -> Row:
    """Tell of an answer that another attempt would not change."""
    told = dict.fromkeys(("safe", "creating", "export", "start"), at_once(error))
    return Row(name=name, fault=fault, **told | {"wait": LEFT, "tail": OMITTED} | more)


def _harmless(name: str, fault: Fault | None, **more: Any) -> Row:
    """Tell of what makes no difference."""
    told = dict.fromkeys(("safe", "creating", "export", "start", "wait"), DONE)
    return Row(name=name, fault=fault, **told | more)


def _away(name: str, place: Place) -> Row:
    """Tell of a place where nobody hears."""
    vain = in_vain(TransportError)
    told = dict.fromkeys(("safe", "creating", "export", "start", "file"), vain)
    return Row(name=name, place=place, **told, wait=LONG_LEFT, tail=OMITTED)


def _date(skew: float = 0.0) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + skew + ASKED_FOR, UTC), usegmt=True)


_SLOW = {"seconds": 4 * TIMEOUT}

# fmt: off
TABLE = [
    _limited("429, `Retry-After` in seconds", ASKED_FOR),
    _limited("429, `Retry-After` as a date", _date()),
    _limited("the same, Losant's clock 10 min behind", _date(-600.0), switches=BEHIND),
    _limited("the same, Losant's clock 10 min ahead", _date(600.0), switches=AHEAD),
    _limited("429 without `Retry-After`", None),
    _unclear("408", Fault("server_error", status=408), ResponseError, SOUGHT),
    _passing("425", Fault("server_error", status=425)),
    _unclear("500", Fault("server_error", status=500), ServerError, SOUGHT),
    _unclear("500, but it was done", Fault("server_error", status=500, effect=True), ServerError, ADOPTED),
    _unclear("502 with an HTML page", Fault("html"), ServerError, SOUGHT),
    _unclear("503", Fault("server_error"), ServerError, SOUGHT),
    _unclear("an unknown status, 599", Fault("server_error", status=599), ServerError, SOUGHT),
    _final("an unknown status, 418", Fault("server_error", status=418), ResponseError, file=FRESH),
    _final("401", Fault("unauthorized"), Unauthorized, wait=LOOKED, file=FRESH),
    _final(
        "200 with an HTML page", Fault("html", status=200), NotLosantApi,
        start=SOUGHT, wait=LOOKED, file=AGAIN, tail=READ,
    ),
    _final(
        "a redirect to another host", Fault("redirect"), NotLosantApi,
        wait=LOOKED, file=Promise("followed, without the token"), tail=READ,
    ),
    _unclear("truncated JSON", Fault("truncated"), ProtocolError, ADOPTED, tail=READ),
    _unclear("an empty body", Fault("empty"), ProtocolError, ADOPTED, tail=READ),
    _unclear("JSON of the wrong shape", Fault("misshapen"), ProtocolError, ADOPTED, file=None, tail=None),
    _harmless("the wrong content type", Fault("mislabelled"), file=DONE, tail=READ),
    _harmless("fields that nobody knows", Fault("extra_fields")),
    _harmless("fields missing that may be missing", Fault("missing_fields")),
    _harmless("a slow answer", Fault("slow", seconds=0.02), file=DONE, tail=READ),
    _harmless("a slow body", Fault("drip", seconds=0.02), file=DONE, tail=READ),
    _unclear("a body too slow for `timeout`", Fault("drip", **_SLOW), TransportError, ADOPTED, file=DONE),
    _unclear("silence", Fault("hang", **_SLOW), TransportError, SOUGHT),
    _unclear("silence, but it was done", Fault("hang", effect=True, **_SLOW), TransportError, ADOPTED),
    _unclear("a reset before it was done", Fault("reset_before"), TransportError, SOUGHT),
    _unclear("a reset after it was done", Fault("reset_after"), TransportError, ADOPTED),
    _final(
        "a gzip bomb", Fault("bomb", size=2 * MOST), ResponseTooLarge,
        start=SOUGHT, wait=LOOKED, file=AGAIN, tail=READ,
    ),
    _final(
        "a body without end", Fault("endless", seconds=5), ResponseTooLarge,
        start=SOUGHT, wait=LOOKED, file=AGAIN,
    ),
    _away("a closed port", "closed port"),
    _away("a host name that cannot be resolved", "unknown host"),
    Row(
        name="a certificate that nobody vouches for", place="untrusted certificate",
        **dict.fromkeys(("safe", "creating", "export", "start"), at_once(TlsError)),
        wait=LEFT, file=in_vain(TransportError), tail=OMITTED,
    ),
    _harmless(
        "Losant's clock 10 min behind", None, switches=BEHIND,
        start=ADOPTED, start_fault=Fault("reset_after"), file=DONE, tail=READ,
    ),
    _harmless(
        "Losant's clock 10 min ahead", None, switches=AHEAD,
        start=ADOPTED, start_fault=Fault("reset_after"), file=DONE, tail=READ,
    ),
    Row(
        name="a log that lags by 30 s", switches={"listing_lag": 30.0},
        safe=DONE, creating=DONE, export=DONE,
        start=ADOPTED, start_fault=Fault("reset_after"), wait=Promise("looked at again, waited on", 3),
    ),
    Row(name="an execution status that nobody knows", wait=WATCHED),
]
# fmt: on


def markdown() -> str:
    """Write the table as the documentation has it."""
    lines = [f"| what happens once | {' | '.join(COLUMNS.values())} |", f"|---{'|---' * len(COLUMNS)}|"]
    for row in TABLE:
        cells = [getattr(row, column) for column in COLUMNS]
        lines.append(f"| {row.name} | {' | '.join(it.said if it else '' for it in cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
