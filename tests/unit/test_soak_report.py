# SPDX-License-Identifier: Apache-2.0
"""The report of the soak, and when it says that everything holds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.journeys.soak.soak_run import Report, Size

EARLY = Size(memory=100_000_000, files=1000)


def report(last: Size = EARLY, **more: Any) -> Report:
    return Report(waits=1000, minutes=10, faults=147, lags=[3.0, 36.1], sizes=[EARLY, last], **more)


def test_a_soak_passes_when_nothing_is_lost_and_growth_is_small() -> None:
    it = report(Size(memory=104_900_000, files=1001), blocked=0.3)

    assert it.holds
    assert str(it) == (
        "1,000 waits, 10 min, 147 faults: lost 0, wrong 0, largest lag 36.1 s, "
        "event loop blocked 0.00 s while all waited, 0.30 s with their starts and ends, "
        "memory 100 -> 105 MB (+4.9%), open files 1000 -> 1001: holds"
    )


@pytest.mark.parametrize(
    "it",
    [
        report(lost=1),
        report(wrong=1),
        report(Size(memory=105_000_000, files=1000)),
        report(Size(memory=100_000_000, files=1051)),
    ],
    ids=["a wait is lost", "a wait is wrong", "memory", "open files"],
)
def test_a_soak_fails_when_a_wait_is_lost_or_resources_grow(it: Report) -> None:
    assert not it.holds
    assert str(it).endswith("DOES NOT HOLD")
