# SPDX-License-Identifier: Apache-2.0
"""The benchmark counts exactly, and a lost wait makes it fail."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from tests.benchmarks import events as busy
from tests.benchmarks import plot, report, waiting
from tests.benchmarks.__main__ import run_case
from tests.benchmarks.events import EventFigures
from tests.benchmarks.peers import PROVIDERS, Provider, environment
from tests.benchmarks.processes import serving
from tests.benchmarks.records import BARE, DATABRICKS, LOSANT, Case, Figures
from tests.benchmarks.server import BenchmarkServer

FIGURES = Figures(
    events=2_000,
    requests=7,
    connections=1,
    megabytes=3.9,
    cpu=1.0,
    kilobytes=18.0,
    lag=0.2,
    gc_pause=0.1,
    median=1.0,
    slowest=2.4,
    server_load=0.1,
)


@pytest.fixture
def server() -> Iterator[BenchmarkServer]:
    with BenchmarkServer(None) as served:
        yield served


@pytest.mark.parametrize("provider", [LOSANT, BARE])
def test_every_wait_ends_and_every_request_is_counted(tmp_path: Path, provider: str) -> None:
    case = Case(provider=provider, waits=20, is_spread=True, seconds=1, interval=0.3)

    with serving(tmp_path) as address:
        found = run_case(case, address, Path(sys.executable), environment(tmp_path, address))
        seen = requests.get(f"{address.url}/_emulator/requests", verify=address.ca, timeout=10).json()

    operations = [request["operation"] for request in seen]
    assert found.events == 20
    assert operations == ["notebook.logs"] * found.requests
    assert found.requests >= 20
    assert 0 < found.median <= found.slowest


def test_the_peers_get_the_same_runs(server: BenchmarkServer) -> None:
    with waiting.Control(server.address) as control:
        runs = control.make_runs([0.0, 60.0], is_spread=False)
        control.begin()
        dbt_cloud = [_get(f"{server.url}/api/v2/accounts/1/runs/{run.number}/") for run in runs]
        databricks = [_get(f"{server.url}/api/2.2/jobs/runs/get", run_id=run.number) for run in runs]
        counts = control.counts()

    assert [it["data"]["status"] for it in dbt_cloud] == [10, 3]
    assert [it["state"]["life_cycle_state"] for it in databricks] == ["TERMINATED", "RUNNING"]
    assert [entry["status"] for entry in server.executions(runs[0].notebook_id)] == [
        "inProgress",
        "completed",
    ]
    assert counts["requests"] == 4


def _get(url: str, **body: int) -> Any:
    return requests.get(url, json=body or None, timeout=10).json()


class Silent:
    """A trigger whose event never comes."""

    async def run(self) -> AsyncIterator[SimpleNamespace]:
        await asyncio.sleep(60)
        yield SimpleNamespace(payload={})


class Wrong:
    """A trigger with a wrong event."""

    async def run(self) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(payload={"status": "error"})


@pytest.mark.parametrize(("kind", "problem"), [(Silent, "its event never came"), (Wrong, "a wrong event")])
def test_a_lost_wait_fails_the_benchmark(
    server: BenchmarkServer, monkeypatch: pytest.MonkeyPatch, kind: type[Silent | Wrong], problem: str
) -> None:
    faulty = Provider(
        connection=lambda _: {}, trigger=lambda *_: kind(), is_right=lambda event: event.get("status") == "ok"
    )
    monkeypatch.setattr("tests.benchmarks.waiting.PROVIDERS", {**PROVIDERS, "faulty": faulty})
    case = Case(provider="faulty", waits=3, seconds=0.01, patience=0.01)

    with pytest.raises(RuntimeError, match=f"waits went wrong; the first: .*{problem}"):
        waiting.measure(case, server.address)


def test_a_bound_holds_only_if_the_figure_is_within() -> None:
    ours, spread = Case(provider=LOSANT, waits=2_000), Case(provider=LOSANT, waits=2_000, is_spread=True)
    peer = Case(provider=DATABRICKS, waits=2_000)
    bare, more = Case(provider=BARE, waits=2_000, is_spread=True), Case(provider=LOSANT, waits=10_000)
    many = replace(FIGURES, requests=8, cpu=7.9, connections=100)
    slow = replace(FIGURES, lag=0.26, cpu=50.0)
    quick = replace(FIGURES, cpu=0.5)

    claims = list(
        report.claims_of_waits([(ours, many), (spread, FIGURES), (peer, many), (bare, quick), (more, slow)])
    )

    assert [(claim.found, claim.holds) for claim in claims] == [
        ("8 requests", False),
        ("100 connections", False),
        ("18 KB per wait", False),
        ("0.2 s", False),
        ("2.4 s", True),
        ("1.0 times", False),
        ("2 times", False),
        ("1 against 7.9", True),
        ("1 against 100", True),
        ("7 requests", True),
        ("1 connections", True),
        ("18 KB per wait", False),
        ("0.26 s", False),
        ("1.266 times", False),
    ]
    assert "DOES NOT HOLD" in str(claims[0])


BUSY = EventFigures(
    parse=40.0,
    since_cpu=60.0,
    since_block=9.0,
    filtered_cpu=900.0,
    filtered_block=17.0,
    burst_cpu=300.0,
    burst_block=60.0,
    burst_megabytes=21.0,
    waiting=5_880,
    waiting_kilobytes=0.8,
    batch_waiting=1,
    batch_growth=0.1,
)


def test_long_logs_and_many_endings_are_compared_with_their_bounds() -> None:
    assert [(claim.found, claim.holds) for claim in report.claims_of_events(BUSY)] == [
        ("9 ms", True),
        ("1.5 times", True),
        ("17 ms", True),
        ("60 ms", False),
        ("21 MB", False),
        ("0.8 KB", True),
        ("1 endings", False),
        ("0.1 MB", True),
    ]


def test_every_ending_is_counted_and_the_steps_are_those_between_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "BURST": 450,
        "SINCE_WAITS": 60,
        "SINCE_ENTRIES": 450,
        "MINUTES": 1,
        "ROUNDS": 1,
    }.items():
        monkeypatch.setattr(busy, name, value)

    found = busy.measure()

    assert (found.waiting, found.batch_waiting) == (600 - 12, 0)
    assert 0 < found.since_block < found.since_cpu
    assert 0 < found.filtered_block < found.filtered_cpu
    assert 0 < found.burst_block < found.burst_cpu
    assert found.waiting_kilobytes > 0


def test_the_median_of_each_figure_counts() -> None:
    rounds = [
        replace(FIGURES, requests=requests, lag=lag) for requests, lag in ((5, 0.3), (7, 0.1), (6, 0.2))
    ]

    assert Figures.medians(rounds) == replace(FIGURES, requests=6, lag=0.2)


def test_a_table_is_markdown() -> None:
    lines = report.waits([(Case(provider=LOSANT, waits=2_000), FIGURES)]).splitlines()

    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[1].startswith("| ----:")


def test_the_plot_has_a_line_for_each_provider_and_is_reproducible(tmp_path: Path) -> None:
    measured = [
        (Case(provider=provider, waits=waits, is_spread=is_spread), replace(FIGURES, cpu=waits / 100))
        for provider, is_spread in ((LOSANT, False), (LOSANT, True), (BARE, True), (DATABRICKS, False))
        for waits in (100, 1_000)
    ]
    files = [tmp_path / "one.svg", tmp_path / "other.svg"]

    for file in files:
        plot.draw(measured, file)

    texts = [file.read_text() for file in files]
    assert texts[0] == texts[1]
    for text in ("Losant, one notebook each", "bare aiohttp", DATABRICKS, "CPU seconds", "Requests"):
        assert f">{text}" in texts[0]
