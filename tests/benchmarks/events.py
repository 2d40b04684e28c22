# SPDX-License-Identifier: Apache-2.0
"""
What long logs and many endings cost, in a process of its own: ``python -m tests.benchmarks.events``.

The responses are made beforehand and the clock is simulated, so that half an hour of a busy notebook takes
seconds. Each response has the executions of the last two minutes.
Blocks are measured in CPU time, because other processes of the machine make every other time longer.
"""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows.completions import Checkpoint, CompletionFeed
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig

APPLICATION_ID, NOTEBOOK_ID = "575ec8687ae143cd83dc4a97", "5c782b8d4f3a8e51c1db42e4"
BEGIN = 1_700_000_000.0
SINCE_WAITS, SINCE_ENTRIES = 200, 2_000
BURST = 4_000
RATE, MINUTES = 10, 10
POLL_INTERVAL, EVENT_SPACING = 60.0, 5.0
ROUNDS = 5
FILE = {"size": 184_220, "contentType": "text/csv", "url": "https://files.example/" + "x" * 300}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFigures:
    """
    What was measured; CPU time in milliseconds.

    :param parse: Parsing the entries of the log once, on its own.
    :param since_cpu: All that the waits for any execution do with one response.
    :param since_block: The longest of it without a return to the event loop.
    :param filtered_cpu: The same as ``since_cpu`` for waits that compare template contexts.
    :param filtered_block: The longest of it without a return to the event loop.
    :param burst_cpu: All that an event trigger does when thousands end at once.
    :param burst_block: The longest of it without a return to the event loop.
    :param burst_megabytes: What it needs in addition to the response, at its largest.
    :param waiting: Endings of a busy notebook, still to be delivered after ten minutes without batches.
    :param waiting_kilobytes: What each of them takes.
    :param batch_waiting: The same with batches.
    :param batch_growth: MB by which the trigger with batches grows once its checkpoint has its full size.
    """

    parse: float
    since_cpu: float
    since_block: float
    filtered_cpu: float
    filtered_block: float
    burst_cpu: float
    burst_block: float
    burst_megabytes: float
    waiting: int
    waiting_kilobytes: float
    batch_waiting: int
    batch_growth: float


def measure() -> EventFigures:
    """Measure all of it."""
    # The filtered waits search all entries, as only the newest execution has this template context.
    newest = json.dumps({"number": SINCE_ENTRIES - 1})
    rounds = [(_parse(), _since_waits(), _since_waits(newest), _burst()) for _ in range(ROUNDS)]
    waiting, kilobytes = _busy_notebook(minutes=MINUTES, batch=False)[-1]
    # The checkpoint has all endings of a quarter of an hour.
    busy = _busy_notebook(minutes=3 * MINUTES, batch=True)
    return EventFigures(
        parse=median(parse for parse, *_ in rounds),
        since_cpu=median(sum(steps) for _, steps, _, _ in rounds),
        since_block=median(max(steps) for _, steps, _, _ in rounds),
        filtered_cpu=median(sum(steps) for _, _, steps, _ in rounds),
        filtered_block=median(max(steps) for _, _, steps, _ in rounds),
        burst_cpu=median(sum(steps) for *_, steps in rounds),
        burst_block=median(max(steps) for *_, steps in rounds),
        burst_megabytes=_burst_memory(),
        waiting=waiting,
        waiting_kilobytes=kilobytes / max(1, waiting),
        batch_waiting=busy[-1][0],
        batch_growth=(busy[-1][1] - busy[2 * MINUTES - 1][1]) / 1024,
    )


def _parse() -> float:
    log = ExecutionLog(_entries(SINCE_ENTRIES, apart=1.0))
    return _milliseconds(lambda: list(log.parse()))


def _since_waits(context_contains: str | None = None) -> list[float]:
    """
    Return the milliseconds of each step between two returns to the event loop.

    :param context_contains: JSON text; as in :class:`Target`.
    """
    log = ExecutionLog(_entries(SINCE_ENTRIES, apart=1.0))
    config = WaitConfig(poll_interval=20.0, deadline=BEGIN + 1e6, max_poll_outage=600.0)
    ids = {"application_id": APPLICATION_ID, "notebook_id": NOTEBOOK_ID}
    targets = [
        Target(**ids, since=BEGIN + number, context_contains=context_contains)
        for number in range(SINCE_WAITS)
    ]
    waits = [Wait(target, config) for target in targets]
    steps = [0.0]
    for number, wait in enumerate(waits):
        if number % 50 == 0:  # as many get a response before the event loop may do other work
            steps.append(0.0)
        is_done = False
        while not is_done:
            before = time.thread_time()
            is_done = wait.on_response(log, BEGIN + SINCE_ENTRIES) is not None
            steps[-1] += (time.thread_time() - before) * 1000
            if not is_done:
                steps.append(0.0)
    if any(wait.ending != "ended" for wait in waits):
        raise RuntimeError("a wait has not ended")
    return steps


def _burst() -> list[float]:
    """Return the milliseconds of each step between two returns to the event loop."""
    log, feed = ExecutionLog(_entries(BURST, apart=0.0)), _feed(batch=False)
    checkpoint, steps = Checkpoint(since=BEGIN), []
    is_done = False
    while not is_done:
        before = time.thread_time()
        is_done = feed.on_response(log, BEGIN + 10) is not None
        steps.append((time.thread_time() - before) * 1000)
    steps.extend(_milliseconds(lambda: _deliver(feed, checkpoint)) for _ in range(BURST))
    if len(checkpoint.delivered) != BURST:
        raise RuntimeError("an ending was not delivered")
    return steps


def _burst_memory() -> float:
    log, feed, checkpoint = (
        ExecutionLog(_entries(BURST, apart=0.0)),
        _feed(batch=False),
        Checkpoint(since=BEGIN),
    )
    with _traced() as megabytes:
        while feed.on_response(log, BEGIN + 10) is None:
            pass
        while _deliver(feed, checkpoint):
            pass
        return megabytes(is_peak=True)


def _busy_notebook(*, minutes: int, batch: bool) -> list[tuple[int, float]]:
    """Return after each minute how many endings are still to be delivered, and the KB that all takes."""
    feed, checkpoint = _feed(batch=batch), Checkpoint(since=BEGIN)
    per_minute, delivered, found = 60 * RATE, 0, []
    with _traced() as megabytes:
        for minute in range(1, minutes + 1):
            end = minute * per_minute
            log = ExecutionLog(_entries(end, apart=1 / RATE, first=max(0, end - 2 * per_minute)))
            while feed.on_response(log, BEGIN + 60 * minute) is None:
                pass
            del log
            for _ in range(int(POLL_INTERVAL / EVENT_SPACING)):
                delivered += _deliver(feed, checkpoint)
            gc.collect()
            found.append((end - delivered, megabytes() * 1024))
    return found


def _deliver(feed: CompletionFeed, checkpoint: Checkpoint) -> int:
    delivery = feed.next_delivery()
    if delivery is None:
        return 0
    checkpoint.advance(delivery.progress)
    return len(delivery.results)


def _feed(*, batch: bool) -> CompletionFeed:
    return CompletionFeed(
        APPLICATION_ID,
        NOTEBOOK_ID,
        statuses=("completed",),
        poll_interval=POLL_INTERVAL,
        now=BEGIN,
        checkpoint=Checkpoint(since=BEGIN),
        batch=batch,
    )


def _entries(last: int, *, apart: float, first: int = 0) -> Any:
    """Return completed executions as Losant lists them, newest first, as new objects."""
    entries = []
    for number in range(last - 1, first - 1, -1):
        at = BEGIN + number * apart
        execution_id = f"{int(at):08x}{number:016x}"
        entries.append(
            {
                "id": execution_id,
                "notebookExecutionId": execution_id,
                "notebookId": NOTEBOOK_ID,
                "applicationId": APPLICATION_ID,
                "status": "completed",
                "executionRelativeTo": _iso(at),
                "runQueuedAt": _iso(at),
                "runStartedAt": _iso(at + 1),
                "inputsCompletedAt": _iso(at + 2),
                "notebookCompletedAt": _iso(at + 3),
                "outputsCompletedAt": _iso(at + 4),
                "maxAllowedRunMinutes": 5,
                "templateContext": json.dumps({"plan": "p" * 200, "number": number}),
                "inputInfo": {},
                "outputInfo": {"result.html": FILE, "report.csv": FILE},
                "executionErrors": [],
            }
        )
    return json.loads(json.dumps(entries))


def _iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _milliseconds(work: Callable[[], object]) -> float:
    before = time.thread_time()
    work()
    return (time.thread_time() - before) * 1000


@contextmanager
def _traced() -> Iterator[Callable[..., float]]:
    """Yield a function that returns the MB of all objects that were made since, now or at their peak."""
    gc.collect()
    tracemalloc.start()
    try:
        yield lambda *, is_peak=False: tracemalloc.get_traced_memory()[is_peak] / 1024**2
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    print(json.dumps(asdict(measure())))
