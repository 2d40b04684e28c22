# SPDX-License-Identifier: Apache-2.0
"""Workers and the triggerer of a real Airflow send metrics to a StatsD server."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Script

if TYPE_CHECKING:
    from tests.support.journey import Journey
    from tests.support.statsd import StatsdServer

pytestmark = [pytest.mark.every_airflow, pytest.mark.xdist_group("stopped-airflow")]

LONG = Script(queue=1.0, notebook=12.0, files={"report.csv": b"site,kwh\n"})
"""Longer than the scheduler needs to notice a deferral, so that the triggerer polls it."""


@pytest.mark.parametrize("variant", ["waiting", "deferred"])
def test_the_metrics_of_an_execution_arrive_at_a_statsd_server(
    own_journey: Journey, statsd: StatsdServer, variant: str
) -> None:
    names = ("execution.ended", "execution.phase", "execution.minutes", "request", "waits")
    before = {name: len(statsd.of(name)) for name in names}

    journey = own_journey
    journey.start(variant, LONG)
    assert journey.wait_for_end() == "success"
    durations = journey.result["durations"]
    received = len(journey.requests)
    ended = before["execution.ended"] + 1
    journey.wait_until(lambda: len(statsd.of("execution.ended")) >= ended, "a metric of the end")

    new = {name: statsd.of(name)[count:] for name, count in before.items()}
    assert [(it.value, it.kind, it.tags) for it in new["execution.ended"]] == [
        (1, "c", {"status": "completed"})
    ]
    phases = {it.tags["phase"]: it.value for it in new["execution.phase"] if it.kind == "ms"}
    assert phases == pytest.approx(
        {name: 1000 * took for name, took in durations.items() if name != "total"}, abs=1
    )
    assert len(new["execution.phase"]) == 4
    assert [it.value for it in new["execution.minutes"]] == pytest.approx(
        [durations["notebook"] / 60], abs=0.001
    )
    requests = Counter((it.tags["operation"], it.tags["outcome"]) for it in new["request"])
    assert requests["notebook.execute", "ok"] == 1
    assert requests["notebook.logs", "ok"] >= 1
    assert requests.total() == received
    waits = [it.value for it in new["waits"]]
    if variant == "deferred":
        # Only the triggerer has waits, so the requests to the log come from there.
        assert max(waits) == 1
        assert waits[-1] == 0
        assert all(it.kind == "g" and it.tags["hostname"] for it in new["waits"])
    else:
        assert waits == []
