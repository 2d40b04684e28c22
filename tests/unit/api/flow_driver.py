# SPDX-License-Identifier: Apache-2.0
"""Run flows without sockets or threads, with a clock that advances only when a flow sleeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows.steps import Fetch, LogLine, Sleep, Tail

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call
    from airflow_provider_losant.api.flows.steps import FileFlow, Flow

T = TypeVar("T")


@dataclass
class FlowDriver:
    """
    Runs flows with given responses.

    :param responses: Results of the calls, in order: a value, an error, or a function of the call. The last
        one is used for all further calls.
    :param now: Epoch seconds.
    :param tail: Result of reading the end of a file.
    :param files: Results of downloads, in order: the content, or an error.
    """

    responses: Iterable[Any]
    now: float = 1_800_000_000.0
    tail: str | LosantError = ""
    files: Iterable[bytes | LosantError] = ()
    calls: list[Call[Any]] = field(default_factory=list)
    request_times: list[float] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    log_lines: list[LogLine] = field(default_factory=list)
    tails: list[Tail] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._remaining = list(self.responses)
        self._files = list(self.files)

    def clock(self) -> float:
        return self.now

    @property
    def log(self) -> str:
        return "\n".join(line.text for line in self.log_lines)

    def operations(self) -> list[str]:
        return [call.operation for call in self.calls]

    def drive(self, flow: Flow[T] | FileFlow[T], max_steps: int = 5_000) -> T:
        send: Callable[[], Any] = partial(next, flow)
        for _ in range(max_steps):
            try:
                step = send()
            except StopIteration as end:
                value: T = end.value
                return value
            response = self._do(step)
            if isinstance(response, LosantError):
                send = partial(flow.throw, response)
            else:
                send = partial(flow.send, response)
        raise AssertionError(f"the flow has not ended after {max_steps} steps")

    def _do(self, step: Any) -> Any:
        if isinstance(step, Sleep):
            assert step.seconds >= 0
            self.now += step.seconds
            self.sleeps.append(step.seconds)
        elif isinstance(step, LogLine):
            self.log_lines.append(step)
        elif isinstance(step, Tail):
            self.tails.append(step)
            return self.tail
        elif isinstance(step, Fetch):
            self.fetches.append(step)
            return self._fetch(step)
        else:
            self.calls.append(step)
            self.request_times.append(self.now)
            response = self._remaining.pop(0) if len(self._remaining) > 1 else self._remaining[0]
            return _parse_log(step, response(step) if callable(response) else response)
        return None

    def _fetch(self, fetch: Fetch) -> int | LosantError:
        content = self._files.pop(0)
        if isinstance(content, LosantError):
            return content
        with fetch.open_sink() as sink:
            sink.write(content)
        return len(content)


def _parse_log(call: Call[Any], response: Any) -> Any:
    """Convert a list of executions, newest first, to the log of a notebook; keep any other response."""
    if call.operation == "notebook.logs" and isinstance(response, list):
        return ExecutionLog([execution.raw for execution in response])
    return response


def maximum(_: float, top: float) -> float:
    """Replace a random number by the upper bound."""
    return top


def mean(low: float, top: float) -> float:
    """Replace a random number by the mean."""
    return (low + top) / 2


def mean_delay(low: float, top: float) -> float:
    """Replace random numbers: the mean pause after a failure, and the exact interval otherwise."""
    return mean(low, top) if low == 0 else low
