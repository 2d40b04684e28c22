# SPDX-License-Identifier: Apache-2.0
"""Requests of a trigger to Airflow do not block the event loop that it shares with thousands of triggers."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant._compat import trigger_task_state
from airflow_provider_losant.hooks.losant import LosantHook
from tests.provider.event_loop_probe import LoopProbe, SlowSecrets, as_triggerer, supervisor
from tests.provider.tasks import Ti

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Mapping

    from airflow_provider_losant.api.settings import Settings

EXTRA = {"application_id": "575ec8687ae143cd83dc4a97", "max_retries": 7}
CONNECTION = {"conn_type": "losant", "host": "losant.invalid", "password": "made-up"}
HOOKS = [LosantHook(f"losant_{number}") for number in range(3)]


async def read_all() -> list[Settings]:
    """Load some connections at the same time, as after a restart of the triggerer."""
    return await asyncio.gather(*(hook.asettings() for hook in HOOKS))


@pytest.fixture
def slow_secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopProbe]:
    """Configure a slow secrets backend in Airflow."""
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", f"{SlowSecrets.__module__}.{SlowSecrets.__name__}")
    monkeypatch.setattr(SlowSecrets, "probe", LoopProbe())
    monkeypatch.setattr(SlowSecrets, "connection", {**CONNECTION, "extra": EXTRA})
    yield SlowSecrets.probe
    with suppress(ImportError):  # Airflow 3.3 would continue to ask it
        from airflow.sdk.configuration import clear_secrets_backends_cache

        clear_secrets_backends_cache()


def test_a_slow_secrets_backend_does_not_block_the_event_loop(slow_secrets: LoopProbe) -> None:
    read = asyncio.run(slow_secrets.during(read_all()))

    assert [(it.token, it.max_retries) for it in read] == [("made-up", 7)] * 3
    assert (slow_secrets.checks, slow_secrets.stops) == (3, 0)


def ask(
    patch: pytest.MonkeyPatch, question: Awaitable[Any], responses: Mapping[str, dict[str, Any]]
) -> tuple[Any, LoopProbe]:
    """Send a request as a trigger of Airflow 3 does; returns the response and the probe of the event loop."""
    probe = LoopProbe()
    with supervisor(probe, responses) as wire:

        async def main() -> Any:
            async with as_triggerer(wire, patch):
                return await probe.during(question)

        return asyncio.run(main()), probe


@pytest.mark.airflow(since="3.0")
# a warning of Airflow 3.0 about its own hook
@pytest.mark.filterwarnings(r"ignore:Using Connection\.\w+ from .airflow:DeprecationWarning:airflow\.")
def test_getting_a_connection_from_the_supervisor_does_not_block_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    response = {
        **dict.fromkeys(("login", "schema", "port")),
        **CONNECTION,
        "conn_id": "losant",
        "extra": json.dumps(EXTRA),
        "type": "ConnectionResult",
    }

    read, probe = ask(monkeypatch, read_all(), {"GetConnection": response})

    assert [(it.token, it.max_retries) for it in read] == [("made-up", 7)] * 3
    assert probe.checks >= 3
    assert probe.stops == 0


@pytest.mark.airflow(since="3.0")
@pytest.mark.parametrize("state", ["deferred", "failed", None])
@pytest.mark.parametrize("map_index", [-1, 3])
def test_reading_the_state_of_a_task_does_not_block_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, state: str | None, map_index: int
) -> None:
    ti = Ti(map_index=map_index)
    key = ti.task_id if map_index < 0 else f"{ti.task_id}_{map_index}"
    response = {"task_states": {ti.run_id: {key: state}} if state else {}, "type": "TaskStatesResult"}

    answered, probe = ask(monkeypatch, trigger_task_state(ti), {"GetTaskStates": response})

    assert answered == state
    assert (probe.checks, probe.stops) == (1, 0)
