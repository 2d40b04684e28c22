# SPDX-License-Identifier: Apache-2.0
"""Tables of the figures, and whether they are within the bounds that the documentation promises."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks import events as busy
from tests.benchmarks.calling import HOOK, SESSION
from tests.benchmarks.records import BARE, LOSANT, Case, Figures

if TYPE_CHECKING:
    from tests.benchmarks.events import EventFigures
    from tests.benchmarks.importing import Cost

Measured = Sequence[tuple[Case, Figures]]

MANY = 2_000
MAX_LAGS = {2_000: 0.1, 10_000: 0.25}
"""Seconds for which waits for one notebook may delay the event loop, up to each number of waits."""
MAX_KILOBYTES = 12.0
MAX_GROWTH = 1.2
"""How many times more CPU per wait the most waits may need than the fewest: it grows linearly."""
FEWEST = 2_000
"""Waits from which on the costs per wait are compared; with fewer, those of each poll weigh more."""
MAX_TIMES_BARE = 1.5
MAX_TIMES_SESSION = 0.6
MAX_MODULES = 16
MAX_MILLISECONDS = 10.0
MAX_BLOCK = 50.0
"""Milliseconds for which nothing may keep the event loop from other work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A bound, the measured figure, and whether it is within the bound."""

    promise: str
    found: str
    holds: bool

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'DOES NOT HOLD'}: {self.promise}; measured: {self.found}"


def title(case: Case) -> str:
    """Return a title for a case."""
    if case.provider != LOSANT:
        return f"{case.waits:,} waits by {case.provider}"
    return f"{case.waits:,} waits on {_notebooks(case)} notebook{'s' if case.is_spread else ''}"


def waits(measured: Measured) -> str:
    """Return the table of waits."""
    heads = (
        "waits",
        "notebooks",
        "trigger of",
        "requests",
        "connections",
        "MB received",
        "CPU s",
        "CPU ms per request",
        "KB per wait",
        "largest lag s",
        "longest GC s",
        "p50 s",
        "p99 s",
        "server busy",
    )
    rows = [
        (
            f"{case.waits:,}",
            _notebooks(case) if case.provider in {LOSANT, BARE} else "any",
            case.provider,
            f"{it.requests:,}",
            f"{it.connections:,}",
            f"{it.megabytes:.2f}",
            f"{it.cpu:.2f}",
            f"{_per_request(it):.2f}",
            f"{it.kilobytes:.0f}",
            f"{it.lag:.3f}",
            f"{it.gc_pause:.3f}",
            f"{it.median:.2f}",
            f"{it.slowest:.2f}",
            f"{it.server_load:.0%}",
        )
        for case, it in measured
    ]
    return _table(heads, rows)


def ratios(measured: Measured) -> str:
    """Return the table of how many times more other providers needed than ours, for the same waits."""
    rows = [
        (
            f"{case.waits:,}",
            _notebooks(case),
            peer,
            f"{theirs.requests / ours.requests:,.1f}",
            f"{theirs.connections / ours.connections:,.1f}",
            f"{theirs.cpu / ours.cpu:.1f}",
            f"{theirs.lag / ours.lag:.1f}",
        )
        for case, ours in _of_losant(measured)
        for peer, theirs in _peers(measured, case.waits).items()
    ]
    return _table(("waits", "notebooks", "compared to", "requests", "connections", "CPU", "lag"), rows)


def imports(costs: Mapping[str, Cost]) -> str:
    """Return the table of imports."""
    rows = [(name, f"{cost.modules:,}", f"{cost.milliseconds:.1f}") for name, cost in costs.items()]
    return _table(("operators of", "modules", "ms"), rows)


def calls(costs: Mapping[str, float]) -> str:
    """Return the table of calls."""
    own = costs[SESSION]
    rows = [(name, f"{cost:.2f}", f"{cost / own:.2f}") for name, cost in costs.items()]
    return _table(("client", "CPU ms per call", "times the Session"), rows)


def events(it: EventFigures) -> str:
    """Return the table of long logs and many endings."""
    rows = [
        (
            f"{busy.SINCE_WAITS:,} waits for any of {busy.SINCE_ENTRIES:,} executions",
            f"{it.since_cpu:.1f}",
            f"{it.since_block:.1f}",
            "",
        ),
        (
            "the same, for one of a certain template context",
            f"{it.filtered_cpu:.1f}",
            f"{it.filtered_block:.1f}",
            "",
        ),
        (
            f"{busy.BURST:,} executions end at once",
            f"{it.burst_cpu:.1f}",
            f"{it.burst_block:.1f}",
            f"{it.burst_megabytes:.1f}",
        ),
        (
            f"{it.waiting:,} executions are still to be delivered",
            "",
            "",
            f"{it.waiting * it.waiting_kilobytes / 1024:.1f}",
        ),
    ]
    return _table(("what", "CPU ms", "longest block ms", "MB"), rows)


def claims_of_events(it: EventFigures) -> Iterator[Claim]:
    """Compare long logs and many endings with their bounds."""
    since = f"{busy.SINCE_WAITS:,} waits for any of {busy.SINCE_ENTRIES:,} executions"
    burst = f"{busy.BURST:,} executions that end at once"
    rate = f"At {busy.RATE} endings per second"
    yield _at_most(f"{since} block the event loop for", it.since_block, MAX_BLOCK, "ms")
    yield _at_most(
        f"{since} need, of the CPU time of parsing them once,", it.since_cpu / it.parse, 2, "times"
    )
    yield _at_most(f"{since} with a filter block the event loop for", it.filtered_block, MAX_BLOCK, "ms")
    yield _at_most(f"{burst} block the event loop for", it.burst_block, MAX_BLOCK, "ms")
    yield _at_most(f"{burst} need", it.burst_megabytes, 20, "MB")
    yield _at_most(f"{rate}, each that is still to be delivered takes", it.waiting_kilobytes, 1, "KB")
    yield _at_most(f"{rate} with batches, still to be delivered are", it.batch_waiting, 0, "endings")
    yield _at_most(f"{rate} with batches, ten minutes add", it.batch_growth, 0.5, "MB")


def claims_of_waits(measured: Measured) -> Iterator[Claim]:
    """Compare the waits with their bounds."""
    bare = {case.waits: it for case, it in measured if case.provider == BARE}
    for case, it in _of_losant(measured):
        peers = _peers(measured, case.waits)
        if not case.is_spread:
            yield from _of_one_notebook(case, it)
        elif case.waits == MANY and MANY in bare:
            yield _at_most(
                f"{title(case)} need, of the CPU time per poll of aiohttp alone,",
                _per_request(it) / _per_request(bare[MANY]),
                MAX_TIMES_BARE,
                "times",
            )
        if peers and case.waits == MANY:
            yield from _of_peers(case, it, peers)
    yield from _of_growth(measured)


def failure(case: Case, error: Exception) -> Claim:
    """Return the failed claim of a case in which a wait was lost."""
    return Claim(promise=f"{title(case)} get an event each", found=str(error), holds=False)


def claims_of_imports(costs: Mapping[str, Cost]) -> Iterator[Claim]:
    """Compare the imports with their bounds."""
    ours = costs[LOSANT]
    yield _at_most("Importing operator, sensor and decorator adds", ours.modules, MAX_MODULES, "modules")
    yield _at_most(
        "Importing operator, sensor and decorator takes", ours.milliseconds, MAX_MILLISECONDS, "ms"
    )


def claims_of_calls(costs: Mapping[str, float]) -> Iterator[Claim]:
    """Compare the calls with their bounds."""
    yield _at_most(
        "A hook's call needs, of the CPU time of a bare Session's,",
        costs[HOOK] / costs[SESSION],
        MAX_TIMES_SESSION,
        "times",
    )


def _of_one_notebook(case: Case, it: Figures) -> Iterator[Claim]:
    what = title(case)
    most = math.ceil(case.seconds / case.interval) + 2
    yield _at_most(f"{what} need", it.requests, most, "requests")
    yield _at_most(f"{what} need", it.connections, 1, "connections")
    if case.waits >= FEWEST:
        yield _at_most(f"{what} need", it.kilobytes, MAX_KILOBYTES, "KB per wait")
    lag = next((lag for most, lag in MAX_LAGS.items() if case.waits <= most), None)
    if lag is not None:
        yield _at_most(f"{what} delay the event loop by", it.lag, lag, "s")
    if case.waits <= MANY:
        yield _at_most(f"{what}: 99 % of the events come within", it.slowest, case.interval + 0.5, "s")


def _of_growth(measured: Measured) -> Iterator[Claim]:
    of_one = {
        case.waits: it for case, it in _of_losant(measured) if not case.is_spread and case.waits >= FEWEST
    }
    if len(of_one) > 1:
        fewest, most = min(of_one), max(of_one)
        growth = (of_one[most].cpu / most) / (of_one[fewest].cpu / fewest)
        what = f"{most:,} waits on one notebook need, of the CPU time per wait of {fewest:,},"
        yield _at_most(what, growth, MAX_GROWTH, "times")


def _per_request(it: Figures) -> float:
    """Return the milliseconds of CPU time per request."""
    return it.cpu / it.requests * 1000


def _of_peers(case: Case, it: Figures, peers: Mapping[str, Figures]) -> Iterator[Claim]:
    what = title(case)
    least = min(peer.cpu for peer in peers.values())
    if case.is_spread:
        fewest = min(peer.connections for peer in peers.values())
        yield _below(f"{what} need fewer CPU seconds than any peer's", it.cpu, least)
        yield _below(f"{what} need fewer connections than any peer's", it.connections, fewest)
    else:
        ratio = least / it.cpu
        promise = f"{what} need at least 8 times less CPU than the better peer"
        yield Claim(promise=promise, found=f"{ratio:.1f} times", holds=ratio >= 8)


def _at_most(what: str, found: float, most: float, unit: str) -> Claim:
    return Claim(promise=f"{what} at most {most:g} {unit}", found=f"{found:.4g} {unit}", holds=found <= most)


def _below(promise: str, found: float, bound: float) -> Claim:
    return Claim(promise=promise, found=f"{found:.4g} against {bound:.4g}", holds=found < bound)


def _of_losant(measured: Measured) -> Measured:
    return [(case, it) for case, it in measured if case.provider == LOSANT]


def _peers(measured: Measured, waits: int) -> dict[str, Figures]:
    return {
        case.provider: it
        for case, it in measured
        if case.waits == waits and case.provider not in {LOSANT, BARE}
    }


def _notebooks(case: Case) -> str:
    return f"{case.waits:,}" if case.is_spread else "one"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with texts aligned left and numbers aligned right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    numeric = [
        all(cell[:1].isdigit() and " " not in cell for cell in column if cell)
        for column in zip(*rows, strict=True)
    ]
    rule = [
        f"{'-' * (width - is_number)}{':' * is_number}"
        for width, is_number in zip(widths, numeric, strict=True)
    ]
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(line, widths, numeric, strict=True)
        )
        + " |"
        for line in (heads, rule, *rows)
    )
