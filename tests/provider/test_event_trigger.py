# SPDX-License-Identifier: Apache-2.0
"""DAGs that start after a notebook execution: Airflow's own trigger runner and a local Losant."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_losant._compat import asset_stores
from airflow_provider_losant.api.http import async_client
from airflow_provider_losant.assets.notebook import create_asset
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.triggers import event_stream, shared_poll
from airflow_provider_losant.triggers.notebook import (
    LosantNotebookEventTrigger,
    LosantNotebookExecutionTrigger,
)
from tests.provider.conftest import set_connection
from tests.support.factories import BRIEF

needs_events = pytest.mark.airflow(since="3.0")
needs_memory = pytest.mark.airflow(since="3.3")
needs_queues = pytest.mark.airflow(since="3.4")
pytestmark = pytest.mark.usefixtures("losant_connection")

INTERVAL = 0.1
ASSET = "battery"


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Assert after every test that everything is closed after the last trigger."""
    yield
    assert shared_poll._polls == {}
    assert async_client._shared == {}
    gc.collect()  # a session that was not closed warns now, and a warning is an error


@pytest.fixture(autouse=True)
def short_event_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause between events, which is there for Airflow's scheduler."""
    monkeypatch.setattr(event_stream, "EVENT_SPACING", 0.02)


def watcher(notebook: str, **more: Any) -> LosantNotebookEventTrigger:
    trigger = LosantNotebookEventTrigger(notebook_id=notebook, **{"poll_interval": INTERVAL, **more})
    # As Airflow does: the trigger that runs is made from the stored one.
    return LosantNotebookEventTrigger(**json.loads(json.dumps(trigger.serialize()[1])))


@dataclass
class Supervisor:
    """Stores the state of triggers in memory, in place of Airflow's process with the database."""

    kept: dict[tuple[str, str], Any] = field(default_factory=dict)

    async def asend(self, message: Any) -> Any:
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time import comms

        key = (message.name, message.key)
        if isinstance(message, comms.SetAssetStateStoreByName):
            self.kept[key] = message.value
            return comms.OKResponse(ok=True)
        if key in self.kept:
            return comms.AssetStateStoreResult(value=self.kept[key])
        return comms.ErrorResponse(error=ErrorType.ASSET_STORE_NOT_FOUND)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    from airflow.sdk.execution_time import task_runner

    made = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made


@dataclass
class Triggerer:
    """Airflow's own trigger runner with one trigger; ``confirm`` confirms its events."""

    runner: Any
    task: asyncio.Task[None]

    @property
    def fired(self) -> list[str]:
        return [it.event.payload["execution_id"] for it in self.runner.events]

    async def wait_until_fired(self, *wanted: str) -> None:
        await wait_until(lambda: len(self.fired) >= len(wanted) or self.task.done())
        assert self.fired == list(wanted)

    def confirm(self, many: int | None = None) -> None:
        """Confirm events as Airflow does after it has written them to its database."""
        seqs = [it.persist_seq for it in self.runner.events]
        assert None not in seqs
        self.runner._shared_streams.confirm_persisted(seqs[:many])


_ids = iter(range(1, 1_000))


@asynccontextmanager
async def triggerer(trigger: LosantNotebookEventTrigger, *, assets: int = 1) -> AsyncIterator[Triggerer]:
    """Run a trigger; its memory is lost at the end, as after SIGKILL."""
    from airflow.jobs.triggerer_job_runner import TriggerRunner
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

    runner = TriggerRunner()  # type: ignore[no-untyped-call]  # Airflow's
    trigger.trigger_id = number = next(_ids)
    watched = [Asset(f"{ASSET}-{it}", uri=f"x://{it}") for it in range(assets)]
    trigger.asset_state_store = AssetStateStoreAccessors(inlets=watched)
    work = asyncio.create_task(runner.run_trigger(number, trigger))
    runner.triggers[number] = {"task": work, "is_watcher": True, "name": "watcher", "events": 0}
    try:
        yield Triggerer(runner, work)
    finally:
        work.cancel()
        await asyncio.wait([work])


def execute(losant: Emulator, notebook: str, script: Script = BRIEF) -> str:
    """Run a notebook without Airflow."""
    losant.script(notebook, script)
    return LosantHook().execute_notebook(notebook)


def count_polls(losant: Emulator) -> int:
    return sum(it.operation == "notebook.logs" for it in losant.requests)


async def wait_until(probe: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not probe():  # noqa: ASYNC110 - Losant lives in another thread
            await asyncio.sleep(0.01)


async def wait_until_polled(losant: Emulator) -> None:
    seen = count_polls(losant)
    await wait_until(lambda: count_polls(losant) > seen + 1)


async def first(fired: AsyncIterator[Any], many: int) -> list[dict[str, Any]]:
    """Return the payloads of the first few events."""
    payloads: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        async for event in fired:
            payloads.append(event.payload)
            if len(payloads) == many:
                break
    await fired.aclose()  # type: ignore[attr-defined]  # it is a generator
    return payloads


# -- all Airflow versions with event-driven DAGs ----------------------------------------------------------


@needs_events
def test_a_trigger_that_is_stopped_while_it_waits_for_events_leaves_its_poll(
    losant: Emulator, notebook: str
) -> None:
    async def main() -> None:
        waiting = asyncio.create_task(first(watcher(notebook).run(), 1))
        await wait_until(lambda: losant.requests and shared_poll._polls)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert shared_poll._polls == {}

    asyncio.run(main())


@needs_events
def test_an_event_has_the_result_of_an_execution_started_elsewhere(losant: Emulator, notebook: str) -> None:
    async def main() -> dict[str, Any]:
        fired = asyncio.create_task(first(watcher(notebook).run(), 1))
        await wait_until_polled(losant)
        run = await asyncio.to_thread(execute, losant, notebook)
        (payload,) = await fired
        assert payload["execution_id"] == run
        return payload

    payload = asyncio.run(main())

    assert payload["status"] == "completed"
    assert payload["application_id"] == losant.application_id
    assert payload["url"].endswith(f"/notebooks/{notebook}")
    assert payload["outputs"]["out.csv"]["size"] == len(BRIEF.files["out.csv"])
    assert losant.files_url not in json.dumps(payload)


@needs_events
def test_executions_ended_before_the_first_poll_fire_no_event_and_active_ones_do(
    losant: Emulator, notebook: str
) -> None:
    execute(losant, notebook)
    wait_until_ended(losant, notebook)
    under_way = execute(losant, notebook, Script(notebook=0.4))

    (payload,) = asyncio.run(first(watcher(notebook).run(), 1))

    assert payload["execution_id"] == under_way


@needs_events
def test_events_are_spaced_so_that_each_gets_its_own_dag_run(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "EVENT_SPACING", 3 * INTERVAL)

    async def main() -> float:
        fired = asyncio.create_task(first(watcher(notebook).run(), 4))
        await wait_until_polled(losant)
        began = time.time()
        runs = [await asyncio.to_thread(execute, losant, notebook) for _ in range(4)]
        assert sorted(it["execution_id"] for it in await fired) == sorted(runs)
        return time.time() - began

    assert asyncio.run(main()) > 3 * 3 * INTERVAL


class TriggeringEvents:
    """Replaces Airflow's events by asset; a dict would need to hash the asset, which Airflow 3.0 cannot."""

    def __init__(self, events: list[Any]) -> None:
        self._events = events

    def __getitem__(self, asset: object) -> list[Any]:
        return self._events


@needs_events
def test_a_batch_has_all_executions_that_ended_together(losant: Emulator, notebook: str) -> None:
    async def main() -> list[dict[str, Any]]:
        batches = watcher(notebook, batch=True, poll_interval=4 * INTERVAL).run()
        fired = asyncio.create_task(first(batches, 1))
        await wait_until(lambda: count_polls(losant) > 1)
        for _ in range(4):
            await asyncio.to_thread(execute, losant, notebook)
        return await fired

    [payload] = asyncio.run(main())
    example = import_module("example_dags.losant_react_to_busy_notebook")
    print_checks = example.losant_react_to_busy_notebook().get_task("print_checks").python_callable
    event = SimpleNamespace(extra={"from_trigger": True, "payload": payload})

    assert print_checks(TriggeringEvents([event, event])) == 2 * len(payload["executions"])
    ended = {it["id"] for it in losant.executions(notebook)}
    assert list(payload) == ["executions"]
    assert {it["execution_id"] for it in payload["executions"]} <= ended
    assert len(payload["executions"]) > 1
    assert all(it["url"].endswith(f"/notebooks/{notebook}") for it in payload["executions"])


@needs_events
def test_only_the_selected_statuses_fire_events(losant: Emulator, notebook: str) -> None:
    async def main() -> list[dict[str, Any]]:
        fired = asyncio.create_task(first(watcher(notebook, statuses=["errored"]).run(), 1))
        await wait_until_polled(losant)
        await asyncio.to_thread(execute, losant, notebook)
        await asyncio.to_thread(execute, losant, notebook, Script(notebook=0.03, ending="errored"))
        return await fired

    assert [it["status"] for it in asyncio.run(main())] == ["errored"]


@needs_events
def test_only_executions_with_the_wanted_context_fire_events(losant: Emulator, notebook: str) -> None:
    def execute_with(context: object) -> str:
        losant.script(notebook, BRIEF)
        return LosantHook().execute_notebook(notebook, template_context=json.dumps(context))

    async def main() -> tuple[list[dict[str, Any]], str]:
        wanted = {"site": "north", "days": {"first": 1}}
        fired = asyncio.create_task(first(watcher(notebook, context_contains=wanted).run(), 1))
        await wait_until_polled(losant)
        for other in ({"site": "south"}, {"site": "north"}, {"north": "site"}, {"site": "north", "days": 1}):
            await asyncio.to_thread(execute_with, other)
        expected = await asyncio.to_thread(execute_with, wanted | {"more": 1})
        return await fired, expected

    events, expected = asyncio.run(main())

    assert [it["execution_id"] for it in events] == [expected]


@needs_events
def test_event_triggers_and_waits_for_a_notebook_share_its_polls(losant: Emulator, notebook: str) -> None:
    run = execute(losant, notebook, Script(notebook=0.8))
    waits = LosantNotebookExecutionTrigger(
        losant_conn_id="losant_default",
        application_id=losant.application_id,
        notebook_id=notebook,
        execution_id=run,
        since=time.time() - 60,
        poll_interval=INTERVAL,
        deadline=time.time() + 30,
        max_poll_outage=20.0,
    )

    async def main() -> float:
        began = time.time()
        watchers = [watcher(notebook, statuses=it) for it in (["completed"], ["completed", "errored"])]
        await asyncio.gather(*(first(it.run(), 1) for it in (*watchers, waits)))
        return time.time() - began

    took = asyncio.run(main())

    assert count_polls(losant) <= took / (0.9 * INTERVAL) + 3


@needs_events
def test_an_event_trigger_waits_until_its_connection_works(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LOSANT_LATER", json.dumps({"conn_type": "losant"}))

    async def main() -> None:
        fired = asyncio.create_task(first(watcher(notebook, losant_conn_id="losant_later").run(), 1))
        await wait_until(lambda: "losant_later" in caplog.text)
        set_connection(monkeypatch, losant, "losant_later")
        await wait_until_polled(losant)
        run = await asyncio.to_thread(execute, losant, notebook)
        assert [it["execution_id"] for it in await fired] == [run]

    asyncio.run(main())

    (line,) = (it.message for it in caplog.records if "Cannot poll notebook" in it.message)
    assert "'losant_later': password: is empty" in line


def wait_until_ended(losant: Emulator, notebook: str) -> None:
    deadline = time.time() + 10
    while any(it["status"] != "completed" for it in losant.executions(notebook)):
        assert time.time() < deadline
        time.sleep(0.01)


# -- Airflow versions that store checkpoints --------------------------------------------------------------


@needs_memory
def test_after_a_restart_only_unconfirmed_and_new_completions_fire_events(
    losant: Emulator, notebook: str, supervisor: Supervisor
) -> None:
    async def main() -> None:
        async with triggerer(watcher(notebook)) as one:
            await wait_until(lambda: supervisor.kept)  # it knows from now on what is new
            runs = [await asyncio.to_thread(execute, losant, notebook) for _ in range(3)]
            await wait_until(lambda: len(one.fired) == 3)
            one.confirm()
            before = sorted(one.fired)
            await wait_until(lambda: delivered_ids(supervisor) >= set(runs))
        assert before == sorted(runs)
        meanwhile = [await asyncio.to_thread(execute, losant, notebook) for _ in range(2)]
        await asyncio.to_thread(wait_until_ended, losant, notebook)
        async with triggerer(watcher(notebook)) as other:
            await wait_until(lambda: len(other.fired) == 2)
            await wait_until_polled(losant)
            assert sorted(other.fired) == sorted(meanwhile)

    asyncio.run(main())


@needs_memory
def test_unconfirmed_events_are_fired_again(losant: Emulator, notebook: str, supervisor: Supervisor) -> None:
    async def main() -> None:
        async with triggerer(watcher(notebook)) as one:
            await wait_until(lambda: supervisor.kept)
            for _ in range(2):
                await asyncio.to_thread(execute, losant, notebook)
                await asyncio.to_thread(wait_until_ended, losant, notebook)
            await wait_until(lambda: len(one.fired) == 2)
            one.confirm(1)
            await wait_until(lambda: delivered_ids(supervisor) >= {one.fired[0]})
            runs = one.fired
        async with triggerer(watcher(notebook)) as other:
            await other.wait_until_fired(runs[1])

    asyncio.run(main())


@needs_memory
@pytest.mark.parametrize("then_batch", [True, False])
def test_a_batch_that_was_not_confirmed_is_fired_again_in_either_way(
    losant: Emulator, notebook: str, supervisor: Supervisor, then_batch: bool
) -> None:
    async def main() -> None:
        async with triggerer(watcher(notebook, batch=True)) as one:
            await wait_until(lambda: supervisor.kept)
            first = await asyncio.to_thread(execute, losant, notebook)
            await wait_until(lambda: len(one.runner.events) == 1)
            one.confirm()
            await wait_until(lambda: delivered_ids(supervisor) >= {first})
            runs = [await asyncio.to_thread(execute, losant, notebook) for _ in range(3)]
            await wait_until(lambda: set(executions_in(one)) >= set(runs))
        async with triggerer(watcher(notebook, batch=then_batch)) as other:
            await wait_until(lambda: set(executions_in(other)) >= set(runs))
            assert sorted(executions_in(other)) == sorted(runs)

    asyncio.run(main())


def executions_in(one: Triggerer) -> list[str]:
    """Return the ids of all executions that a triggerer has fired events for."""
    payloads = [it.event.payload for it in one.runner.events]
    return [it["execution_id"] for payload in payloads for it in payload.get("executions", [payload])]


@needs_memory
def test_nothing_after_an_event_that_failed_is_stored(
    losant: Emulator, notebook: str, supervisor: Supervisor
) -> None:
    from airflow.sdk import Asset
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors
    from airflow.triggers.shared_stream import AdvanceItem, AdvanceOutcome

    from airflow_provider_losant.api.flows.completions import Progress
    from airflow_provider_losant.triggers.acked_stream import LosantSharedStreamProducer

    good, bad = AdvanceOutcome(acked=1, failed=0), AdvanceOutcome(acked=0, failed=1)
    after = time.time() + 100
    first, failed, *later = [Progress(since=after, delivered={f"{it}": after}) for it in range(4)]
    trigger = watcher(notebook)
    trigger.asset_state_store = AssetStateStoreAccessors(inlets=[Asset(ASSET, uri="x://0")])

    async def main() -> None:
        producer = LosantSharedStreamProducer()
        async with aclosing(producer.open_stream()) as stream:  # type: ignore[type-var]  # it is a generator
            resolved, _ = await anext(stream)
            resolved.set_result((trigger.subscription, asset_stores(trigger)))
            _, start = await anext(stream)
            await producer.advance([AdvanceItem(None, good), AdvanceItem(start, good)])
            await producer.advance([AdvanceItem(first, good), AdvanceItem(failed, bad)])
            await producer.advance([AdvanceItem(it, good) for it in later])

    asyncio.run(main())

    assert delivered_ids(supervisor) == {"0"}


@needs_memory
def test_the_checkpoint_key_does_not_depend_on_the_poll_interval(
    losant: Emulator, notebook: str, supervisor: Supervisor
) -> None:
    async def main() -> None:
        north: dict[str, Any] = {"context_contains": {"site": "north"}}
        for other_way in ({}, {"poll_interval": 2 * INTERVAL}, {"statuses": ["errored"]}, north):
            asked = count_polls(losant)
            async with triggerer(watcher(notebook, **other_way), assets=2):
                await wait_until(lambda asked=asked: count_polls(losant) > asked + 1)  # type: ignore[misc]

    asyncio.run(main())

    assert sorted(name for name, _ in supervisor.kept) == ["battery-0"] * 3 + ["battery-1"] * 3
    assert len({key for _, key in supervisor.kept}) == 3
    assert losant.token not in json.dumps([*supervisor.kept.values(), *map(list, supervisor.kept)])


def delivered_ids(supervisor: Supervisor) -> set[str]:
    return {name for value in supervisor.kept.values() for name in value["delivered"]}


# -- arguments --------------------------------------------------------------------------------------------


@needs_events
def test_equal_event_triggers_are_serialized_equally(notebook: str) -> None:
    from airflow.triggers.base import BaseEventTrigger

    def sum_up(**more: Any) -> int:
        return BaseEventTrigger.hash(*LosantNotebookEventTrigger(notebook_id=notebook, **more).serialize())

    assert sum_up(poll_interval=timedelta(minutes=1)) == sum_up(poll_interval=60) == sum_up()
    assert sum_up(statuses=("errored",)) != sum_up()
    assert sum_up(context_contains={"site": "north"}) != sum_up() == sum_up(context_contains={})


@needs_events
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"notebook_id": "my notebook"}, "notebook_id"),
        ({"application_id": "mine"}, "application_id"),
        ({"statuses": "completed"}, "statuses"),
        ({"statuses": ["queued"]}, "statuses"),
        ({"statuses": []}, "statuses"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"context_contains": "north"}, "context_contains"),
        ({"context_contains": [1]}, "context_contains"),
        ({"queue": ""}, "queue"),
        ({"queue": " losant"}, "queue"),
        ({"queue": "losant,other"}, "queue"),
        ({"queue": "q" * 257}, "queue"),
        ({"queue": 7}, "queue"),
    ],
)
def test_an_invalid_argument_is_refused_when_the_dag_is_parsed(
    notebook: str, wrong: dict[str, Any], field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        LosantNotebookEventTrigger(**{"notebook_id": notebook, **wrong})


@needs_queues
def test_airflow_stores_the_queue_of_an_event_trigger_with_its_asset(notebook: str) -> None:
    from airflow.sdk import AssetWatcher
    from airflow.serialization.decoders import decode_asset_like
    from airflow.serialization.encoders import encode_asset_like, encode_trigger

    trigger = LosantNotebookEventTrigger(notebook_id=notebook, queue="losant")
    asset = create_asset(
        notebook_id=notebook,
        application_id="575ec8687ae143cd83dc4a97",
        watchers=[AssetWatcher(name="reports", trigger=trigger)],
    )

    (stored,) = decode_asset_like(encode_asset_like(asset)).watchers  # type: ignore[attr-defined]  # of an asset

    assert encode_trigger(stored.trigger)["queue"] == "losant"
    assert watcher(notebook, queue="losant").queue == "losant"  # type: ignore[attr-defined]  # of newer Airflows


@needs_queues
def test_another_queue_makes_another_trigger_and_none_leaves_it_as_it_was(notebook: str) -> None:
    from airflow.triggers.base import BaseEventTrigger

    def sum_up(**more: Any) -> int:
        return BaseEventTrigger.hash(*LosantNotebookEventTrigger(notebook_id=notebook, **more).serialize())

    # By this number Airflow notices that a DAG file has another trigger than its database.
    assert len({sum_up(), sum_up(queue="losant"), sum_up(queue="other")}) == 3
    assert "queue" not in watcher(notebook).serialize()[1]


@needs_events
@pytest.mark.airflow(before="3.4")
def test_an_airflow_without_queues_of_event_triggers_reports_it(notebook: str) -> None:
    with pytest.raises(ValueError, match=r"^queue: needs Airflow 3\.4 or later"):
        LosantNotebookEventTrigger(notebook_id=notebook, queue="losant")


@pytest.mark.airflow(before="3.0")
def test_an_airflow_without_event_triggers_reports_it_in_one_sentence(notebook: str) -> None:
    with pytest.raises(Exception, match=r"need Airflow 3\.0 or later"):
        LosantNotebookEventTrigger(notebook_id=notebook)
