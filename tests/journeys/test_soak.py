# SPDX-License-Identifier: Apache-2.0
"""A small soak, so that the command for a large one works whenever somebody needs it."""

from __future__ import annotations

from tests.journeys.soak.endurance import endure


def test_no_wait_is_lost_while_losant_fails_now_and_then() -> None:
    report = endure(50, minutes=0.1, seed=1, warming=1.0)

    print(report)
    assert (report.waits, report.lost, report.wrong) == (50, 0, 0)
    assert len(report.lags) == 50
