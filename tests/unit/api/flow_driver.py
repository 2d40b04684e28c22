# SPDX-License-Identifier: Apache-2.0
"""Feed a flow by hand: no sockets, no threads, and a clock that only sleeping moves."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows.steps import Fetch, LogLine, Sleep, Tail
from airflow_provider_losant.api.model import ExecutionLog

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call
    from airflow_provider_losant.api.flows.steps import FileFlow, Flow

T = TypeVar("T")


@dataclass
class Hand:
    """
    Carry out a flow.

    :param answers: What the calls get, in turn: a value, an error, or a function of the call. The last one
        is for all further calls.
    :param now: Epoch seconds.
    :param tail: What reading the end of a file gives.
    :param files: What fetching files gives, in turn: their content, or an error.
    """

    answers: Iterable[Any]
    now: float = 1_800_000_000.0
    tail: str | LosantError = ""
    files: Iterable[bytes | LosantError] = ()
    calls: list[Call[Any]] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    notes: list[LogLine] = field(default_factory=list)
    tails: list[Tail] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = list(self.answers)
        self._files = list(self.files)

    def clock(self) -> float:
        return self.now

    @property
    def log(self) -> str:
        return "\n".join(note.text for note in self.notes)

    def operations(self) -> list[str]:
        return [call.operation for call in self.calls]

    def drive(self, flow: Flow[T] | FileFlow[T], most: int = 5_000) -> T:
        send: Callable[[], Any] = partial(next, flow)
        for _ in range(most):
            try:
                step = send()
            except StopIteration as end:
                value: T = end.value
                return value
            answer = self._do(step)
            if isinstance(answer, LosantError):
                send = partial(flow.throw, answer)
            else:
                send = partial(flow.send, answer)
        raise AssertionError(f"the flow goes on after {most} steps")

    def _do(self, step: Any) -> Any:
        if isinstance(step, Sleep):
            assert step.seconds >= 0
            self.now += step.seconds
            self.sleeps.append(step.seconds)
        elif isinstance(step, LogLine):
            self.notes.append(step)
        elif isinstance(step, Tail):
            self.tails.append(step)
            return self.tail
        elif isinstance(step, Fetch):
            self.fetches.append(step)
            return self._fetch(step)
        else:
            self.calls.append(step)
            self.looks.append(self.now)
            answer = self._left.pop(0) if len(self._left) > 1 else self._left[0]
            return _as_losant_would(step, answer(step) if callable(answer) else answer)
        return None

    def _fetch(self, fetch: Fetch) -> int | LosantError:
        content = self._files.pop(0)
        if isinstance(content, LosantError):
            return content
        with fetch.open_sink() as sink:
            sink.write(content)
        return len(content)


def _as_losant_would(call: Call[Any], answer: Any) -> Any:
    """Let a list of executions, newest first, stand for a notebook's log."""
    if call.operation == "notebook.logs" and isinstance(answer, list):
        return ExecutionLog([execution.raw for execution in answer])
    return answer


def highest(_: float, top: float) -> float:
    """Stand for randomness that always gives the most."""
    return top


def middle(low: float, top: float) -> float:
    """Stand for randomness that always gives the mean."""
    return (low + top) / 2


def calm(low: float, top: float) -> float:
    """Stand for randomness that gives a mean pause after a failure, and stretches no interval."""
    return middle(low, top) if low == 0 else low
