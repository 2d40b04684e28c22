# SPDX-License-Identifier: Apache-2.0
"""The table of pairs, generated from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Final

from tests.provider.fault_pairs.faults import EXECUTE_FAULTS, LOGS_FAULTS, PairFault

if TYPE_CHECKING:
    from tests.support.network import NetworkKind

KINDS: Final[tuple[NetworkKind, ...]] = ("direct", "proxy", "tls through proxy")
MODES: Final = ("worker", "deferred")
LONGEST_FAULT: Final = 4.0
"""Seconds for which the log cannot be read, from the first request for it on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """
    A fault of the submission, followed by another one of the execution log.

    :param times: How many requests in a row the first fault happens to.
    :param seconds: How long the second fault lasts; 0 means a single request.
    :param mode: Where the task waits: in the worker or deferred.
    :param max_retries: The connection's; with 0 a failed request ends a try of the task.
    :param has_store: Airflow has a place for the execution's id, as since 3.3.
    :param running: Seconds that the execution takes.
    """

    execute: PairFault
    logs: PairFault
    times: int
    seconds: float
    kind: NetworkKind
    mode: str
    max_retries: int
    has_store: bool
    running: float

    @property
    def name(self) -> str:
        """For instance ``reset, processed + html 403 (1 x, 3.1 s), worker, direct, 0 retries, store``."""
        faults = f"{self.execute.name} + {self.logs.name} ({self.times} x, {self.seconds:.1f} s)"
        store = "store" if self.has_store else "no store"
        return f"{faults}, {self.mode}, {self.kind}, {self.max_retries} retries, {store}"


def all_pairs(seed: int) -> list[Pair]:
    """Return every pair once, in an order that mixes them; each execute fault meets all kinds and modes."""
    random = Random(seed)
    pairs = [
        pair
        for number, execute in enumerate(EXECUTE_FAULTS)
        for pair in _of(execute, LOGS_FAULTS, random, start=number + seed)
    ]
    random.shuffle(pairs)
    return pairs


def chosen_pairs(seed: int) -> list[Pair]:
    """Return a part of the table: each fault of the submission, and each of the log, in both modes."""
    random = Random(seed)
    partners = cycle(LOGS_FAULTS)
    pairs: list[Pair] = []
    for number, execute in enumerate(EXECUTE_FAULTS):
        # Twice in a row, because neighbours in the rotation differ in mode.
        for turn in range(len(MODES)):
            partner = next(it for it in partners if it.base != execute.base)
            [pair] = _of(execute, [partner], random, start=number * len(MODES) + turn)
            pairs.append(pair)
    return pairs


def _of(execute: PairFault, partners: Sequence[PairFault], random: Random, start: int) -> Iterator[Pair]:
    """Rotate through all settings, each at a pace of its own, so that all combinations occur."""
    different = [it for it in partners if it.base != execute.base]
    for turn, logs in enumerate(different, start):
        needs_tls = execute.needs_tls or logs.needs_tls
        max_retries = turn // 2 % 2
        shortest = 1.0 if logs.cause is None else 0.0  # a log that lags for less shows everything in time
        yield Pair(
            execute=execute,
            logs=logs,
            # They end one try at most, because a busy machine may end another one, and there are three.
            times=1 + turn // 8 % 2 * max_retries,
            seconds=random.choice((shortest, random.uniform(shortest, LONGEST_FAULT), LONGEST_FAULT)),
            kind="tls through proxy" if needs_tls else KINDS[turn % len(KINDS)],
            mode=MODES[turn % len(MODES)],
            max_retries=max_retries,
            has_store=turn // 4 % 2 == 0,
            running=random.uniform(0.2, 2.0),
        )
