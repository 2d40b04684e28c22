# SPDX-License-Identifier: Apache-2.0
"""Many triggers in one event loop: their requests to Losant, and their effects on each other."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterator
from email.utils import formatdate
from math import ceil, inf
from typing import Any

import pytest

from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from airflow_provider_losant.api.http import async_client
from airflow_provider_losant.api.http.async_client import SharedClient
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.triggers import shared_poll
from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger
from tests.provider.conftest import set_connection

pytestmark = pytest.mark.usefixtures("losant_connection")

INTERVAL = 0.1
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Assert after every test that everything is closed after the last wait."""
    yield
    assert shared_poll._polls == {}
    assert async_client._shared == {}
    gc.collect()  # a session that is still open warns now, and warnings are errors


def wait(losant: Emulator, notebook: str, execution: str | None, **more: Any) -> Coroutine[Any, Any, Event]:
    """Wait for the event of one trigger."""
    given: dict[str, Any] = {
        "losant_conn_id": "losant_default",
        "application_id": losant.application_id,
        "notebook_id": notebook,
        "execution_id": execution,
        "since": time.time() - 60,
        "poll_interval": INTERVAL,
        "deadline": time.time() + 30,
        "max_poll_outage": 20.0,
    }
    trigger = LosantNotebookExecutionTrigger(**{**given, **more})

    async def event() -> Event:
        async for fired in trigger.run():
            payload: Event = fired.payload
            return payload
        raise AssertionError("the trigger fired nothing")

    return event()


def execute(losant: Emulator, notebook: str, script: Script) -> str:
    losant.script(notebook, script)
    return LosantHook().execute_notebook(notebook)


def poll_times(losant: Emulator, notebook: str = "") -> list[float]:
    """Return the times of the polls."""
    return [it.at for it in losant.requests if it.operation == "notebook.logs" and notebook in it.path]


async def wait_until(probe: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not probe():  # noqa: ASYNC110 - Losant lives in another thread
            await asyncio.sleep(0.01)


# -- the requests to Losant -------------------------------------------------------------------------------


def test_all_waits_for_a_notebook_share_one_request_per_interval(losant: Emulator, notebook: str) -> None:
    runs = [execute(losant, notebook, Script(notebook=0.05 + number / 60)) for number in range(30)]

    async def main() -> tuple[float, list[Event]]:
        began = time.time()
        events = await asyncio.gather(*(wait(losant, notebook, run) for run in runs))
        return time.time() - began, events

    took, events = asyncio.run(main())

    assert [it["result"]["execution_id"] for it in events] == runs
    assert all(it["is_success"] for it in events)
    assert len(poll_times(losant)) <= ceil(took / (0.9 * INTERVAL)) + 2


def test_each_notebook_has_its_own_poll_and_each_connection_one_client_for_all_of_them(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, conn_id="losant_other")
    notebooks = [notebook, losant.add_notebook("Other")]
    runs = [execute(losant, it, Script(ending="hang")) for it in notebooks]

    async def main() -> tuple[int, list[int]]:
        waits = [
            asyncio.create_task(wait(losant, it, run, losant_conn_id=conn_id))
            for it, run in zip(notebooks, runs, strict=True)
            for conn_id in ("losant_default", "losant_other", "losant_default")
        ]
        await wait_until(lambda: all(poll_times(losant, it) for it in notebooks))
        found = len(async_client._shared), [len(polls) for polls in shared_poll._polls.values()]
        await end(waits)
        return found

    assert asyncio.run(main()) == (2, [2, 2])


@pytest.mark.parametrize("is_revoked_first", [True, False])
def test_after_a_rotation_of_the_token_each_notebook_still_has_one_poll(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, is_revoked_first: bool
) -> None:
    monkeypatch.setattr("airflow_provider_losant.hooks.base.SETTINGS_TTL", 0.0)
    notebooks = [notebook, losant.add_notebook("Other")]
    runs = [execute(losant, it, Script(ending="hang")) for it in notebooks]
    brief = execute(losant, notebook, Script(notebook=1.5))
    old, new = losant.add_token(["all.Application"]), losant.add_token(["all.Application"])
    set_connection(monkeypatch, losant, password=old)

    async def main() -> tuple[int, list[int], list[str], Event]:
        def begin() -> list[asyncio.Task[Event]]:
            pairs = zip(notebooks, runs, strict=True)
            return [asyncio.create_task(wait(losant, it, run)) for it, run in pairs]

        waits = [*begin(), asyncio.create_task(wait(losant, notebook, brief))]
        await wait_until(lambda: all(poll_times(losant, it) for it in notebooks))
        set_connection(monkeypatch, losant, password=new)
        if is_revoked_first:
            del losant.backend.tokens[old]
            losant.inject("notebook.logs", Fault("server_error", status=503))
            await wait_until(lambda: any(it.status == 401 for it in losant.requests))
        waits += begin()
        await asyncio.sleep(0.3)
        if not is_revoked_first:
            del losant.backend.tokens[old]
            losant.inject("notebook.logs", Fault("server_error", status=503))
        waits += begin()
        event = await waits[2]
        clients = [it.client for it in async_client._shared.values()]
        found = len(clients), [len(it) for it in shared_poll._polls.values()]
        await end(waits)
        return *found, [it.settings.token for it in clients], event

    clients, polls, tokens, event = asyncio.run(main())

    assert (clients, polls, tokens) == (1, [2], [new])
    assert event["is_success"]


def test_a_rotation_of_one_connection_does_not_change_the_token_of_another(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = losant.add_token(["all.Application"]), losant.add_token(["all.Application"])
    set_connection(monkeypatch, losant, password=old)
    set_connection(monkeypatch, losant, conn_id="losant_other", password=old)
    run = execute(losant, notebook, Script(ending="hang"))

    def tokens() -> set[str]:
        return {it.client.settings.token for it in async_client._shared.values()}

    async def main() -> set[str]:
        conn_ids = ("losant_default", "losant_other")
        waits = [asyncio.create_task(wait(losant, notebook, run, losant_conn_id=it)) for it in conn_ids]
        await wait_until(lambda: len(poll_times(losant)) > 1)
        set_connection(monkeypatch, losant, password=new)
        losant.inject("notebook.logs", Fault("unauthorized"), times=50)
        await wait_until(lambda: new in tokens())
        await end(waits[:1])
        losant.clear_faults()
        await wait_until(lambda: losant.requests[-1].status == 200)
        found = tokens()
        await end(waits)
        return found

    assert asyncio.run(main()) == {old}


def test_waits_with_another_token_have_another_client(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, conn_id="losant_wrong", password="wrong")
    run = execute(losant, notebook, Script(notebook=0.2))

    async def main() -> list[Event]:
        wrong = asyncio.create_task(
            wait(losant, notebook, run, losant_conn_id="losant_wrong", max_poll_outage=0.3)
        )
        return [await wait(losant, notebook, run), await wrong]

    right, wrong = asyncio.run(main())

    assert right["is_success"]
    assert (wrong["ending"], "401" in wrong["problem"]) == ("outage", True)


@pytest.mark.parametrize(("recent", "second"), [(60.0, "first"), (0.0, "rotated")])
def test_waits_that_begin_together_load_their_connection_once(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, recent: float, second: str
) -> None:
    monkeypatch.setattr("airflow_provider_losant.hooks.base.SETTINGS_TTL", recent)
    set_connection(monkeypatch, losant, password="first")

    async def token() -> str:
        async with await LosantHook().aclient() as client:
            return client.settings.token

    async def main() -> list[str]:
        before = await token()
        set_connection(monkeypatch, losant, password="rotated")
        await asyncio.sleep(0.01)
        return [before, await token()]

    assert asyncio.run(main()) == ["first", second]


def test_overdue_polls_of_many_notebooks_are_spread_out(losant: Emulator) -> None:
    notebooks = [losant.add_notebook(str(number)) for number in range(20)]
    runs = [execute(losant, it, Script(ending="hang")) for it in notebooks]

    async def main() -> None:
        waits = [
            asyncio.create_task(wait(losant, it, run, poll_interval=1.0))
            for it, run in zip(notebooks, runs, strict=True)
        ]
        await wait_until(lambda: all(poll_times(losant, it) for it in notebooks))
        await end(waits)

    asyncio.run(main())

    first = sorted(poll_times(losant, it)[0] for it in notebooks)
    assert first[-1] - first[0] > 0.7
    assert first[10] - first[0] > 0.3


# -- effects on each other --------------------------------------------------------------------------------


async def end(waits: list[asyncio.Task[Event]]) -> None:
    for it in waits:
        it.cancel()
    await asyncio.gather(*waits, return_exceptions=True)


def test_a_wait_that_is_cancelled_disturbs_no_other(losant: Emulator, notebook: str) -> None:
    for_ever = execute(losant, notebook, Script(ending="hang"))
    brief = execute(losant, notebook, Script(notebook=0.4))

    async def main() -> Event:
        first = asyncio.create_task(wait(losant, notebook, for_ever))
        other = asyncio.create_task(wait(losant, notebook, brief))
        await wait_until(lambda: poll_times(losant))
        await end([first])
        return await other

    assert asyncio.run(main())["is_success"]


def test_a_timed_out_wait_disturbs_no_other(losant: Emulator, notebook: str) -> None:
    for_ever = execute(losant, notebook, Script(ending="hang"))
    brief = execute(losant, notebook, Script(notebook=0.4))

    async def main() -> tuple[Event, Event]:
        short = wait(losant, notebook, for_ever, deadline=time.time() + 0.15, cancel_on_timeout=True)
        return await asyncio.gather(short, wait(losant, notebook, brief))

    timed_out, ended = asyncio.run(main())

    assert (timed_out["ending"], timed_out["is_cancelled"]) == ("deadline", True)
    assert ended["is_success"]


def test_a_wait_that_fails_to_write_its_log_disturbs_no_other(losant: Emulator, notebook: str) -> None:
    runs = [execute(losant, notebook, Script(notebook=0.3)) for _ in range(2)]
    logged: list[str] = []

    def broken(*_: Any) -> None:
        raise OSError("no space left on device")

    async def wait_until_done(run: str, log: Callable[..., None]) -> Wait:
        now = time.time()
        target = Target.of(LosantHook().execution_ref(notebook, run))
        config = WaitConfig(poll_interval=INTERVAL, deadline=now + 20, max_poll_outage=20.0)
        watch = Wait(target, config)
        async with await LosantHook().aclient() as client:
            await shared_poll.wait_until_done(watch, client, log)
        return watch

    def log_line(_: int, text: str, *arguments: object) -> None:
        logged.append(text % arguments)

    async def main() -> tuple[Any, Any]:
        return await asyncio.gather(
            wait_until_done(runs[0], broken), wait_until_done(runs[1], log_line), return_exceptions=True
        )

    failed, well = asyncio.run(main())

    assert isinstance(failed, OSError)
    assert well.ending == "ended"
    assert "completed" in logged[-1]


def test_an_urgent_new_wait_is_polled_at_once(losant: Emulator, notebook: str) -> None:
    run = execute(losant, notebook, Script(notebook=0.05))
    slow = execute(losant, notebook, Script(ending="hang"))

    async def main() -> Event:
        patient = asyncio.create_task(wait(losant, notebook, slow, poll_interval=30.0))
        await wait_until(lambda: shared_poll._polls)
        async with asyncio.timeout(5):
            event = await wait(losant, notebook, run)
        await end([patient])
        return event

    assert asyncio.run(main())["is_success"]


def test_a_wall_clock_that_is_set_back_delays_no_wait(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (execute(losant, notebook, Script(ending="hang")) for _ in range(2))
    brief = execute(losant, notebook, Script(notebook=1.0))
    back = 0.0
    monkeypatch.setattr(shared_poll, "_clock", lambda: time.time() - back)

    async def main() -> Event:
        nonlocal back
        waits = [asyncio.create_task(wait(losant, notebook, it, deadline=inf)) for it in (first, brief)]
        await wait_until(lambda: len(poll_times(losant)) > 2)
        back = 3_600.0
        losant.inject("notebook.logs", Fault("server_error", status=503), times=3)
        waits.append(asyncio.create_task(wait(losant, notebook, second, deadline=inf)))
        async with asyncio.timeout(15):
            event = await waits[1]
        await end(waits)
        return event

    assert asyncio.run(main())["is_success"]


def test_a_notebook_whose_log_hangs_delays_no_other(losant: Emulator, notebook: str) -> None:
    ill = losant.add_notebook("ill")
    stuck = execute(losant, ill, Script(notebook=0.05))
    run = execute(losant, notebook, Script(notebook=0.2))
    losant.inject("notebook.logs", Fault("slow", seconds=3.0))

    async def main() -> Event:
        hanging = asyncio.create_task(wait(losant, ill, stuck))
        await wait_until(lambda: poll_times(losant, ill))
        async with asyncio.timeout(2):
            event = await wait(losant, notebook, run)
        await end([hanging])
        return event

    assert asyncio.run(main())["is_success"]


def test_no_fault_during_a_poll_ends_a_wait(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, extra={"timeout": 0.3})
    soon = formatdate(time.time() + 2, usegmt=True)
    faults = [
        *(Fault("server_error", status=status) for status in (408, 425, 500, 502, 503, 504)),
        *(Fault("html", status=status) for status in (200, 403, 404, 502)),
        *(Fault("rate_limited", retry_after=after) for after in (None, 1, soon)),
        *(Fault("reset_before"), Fault("reset_after"), Fault("truncated"), Fault("redirect")),
        *(Fault("hang", seconds=1.0), Fault("slow", seconds=1.0), Fault("unauthorized")),
    ]
    run = execute(losant, notebook, Script(notebook=0.05))
    for fault in faults:
        losant.inject("notebook.logs", fault)

    assert asyncio.run(wait(losant, notebook, run))["is_success"]
    assert len(poll_times(losant)) == len(faults) + 1


def test_a_wall_clock_that_is_slower_than_that_of_the_event_loop_delays_no_wait_and_keeps_no_cpu_busy(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = execute(losant, notebook, Script(notebook=0.5))
    began, reads = time.time(), 0

    def slow_clock() -> float:
        nonlocal reads
        reads += 1
        return began + 0.9 * (time.time() - began)

    monkeypatch.setattr(shared_poll, "_clock", slow_clock)

    assert asyncio.run(wait(losant, notebook, run))["is_success"]
    assert reads < 10 * len(poll_times(losant))


def test_after_all_waits_have_left_a_new_wait_starts_a_new_poll(losant: Emulator, notebook: str) -> None:
    run = execute(losant, notebook, Script(notebook=0.05))

    async def main() -> list[Event]:
        return [await wait(losant, notebook, run) for _ in range(3)]

    assert [it["is_success"] for it in asyncio.run(main())] == [True] * 3


def test_a_wait_that_joins_while_the_last_one_leaves_is_polled(losant: Emulator, notebook: str) -> None:
    run = execute(losant, notebook, Script(notebook=0.3))

    async def main() -> list[Event]:
        last = asyncio.create_task(wait(losant, notebook, run))
        await wait_until(lambda: poll_times(losant))
        last.cancel()
        waits = []
        for _ in range(8):  # each a step of the loop later than the one before
            waits.append(asyncio.create_task(wait(losant, notebook, run)))
            await asyncio.sleep(0)
        return await asyncio.gather(*waits)

    assert all(it["is_success"] for it in asyncio.run(main()))


def test_a_wait_that_joins_when_another_has_ended_but_not_left_is_polled(
    losant: Emulator, notebook: str
) -> None:
    hook = LosantHook()
    config = WaitConfig(poll_interval=INTERVAL, deadline=time.time() + 30, max_poll_outage=20.0)

    def wait_for_one() -> Wait:
        ref = hook.execution_ref(notebook, execute(losant, notebook, Script(notebook=0.1)))
        return Wait(Target.of(ref), config)

    async def main() -> str | None:
        async with SharedClient(hook.settings) as client:
            first = wait_for_one()
            poll = shared_poll.SharedPoll.of(first, client)
            while first.demand is not None:
                await poll.wait_for_news(first, hook.log.log)
            second = wait_for_one()
            await shared_poll.wait_until_done(second, client, hook.log.log)
            poll.leave(first)
            return second.ending

    assert asyncio.run(main()) == "ended"


def test_an_unexpected_exception_ends_all_waits_instead_of_blocking_them(
    losant: Emulator, notebook: str
) -> None:
    runs = [execute(losant, notebook, Script(ending="hang")) for _ in range(3)]

    async def main() -> list[Any]:
        waits = [asyncio.create_task(wait(losant, notebook, run)) for run in runs]
        await wait_until(lambda: poll_times(losant))
        async with await LosantHook().aclient() as client:
            await client.close()  # the waits share it, so their next poll raises what no flow expects
        async with asyncio.timeout(10):
            return await asyncio.gather(*waits, return_exceptions=True)

    ends = asyncio.run(main())

    assert [str(it) for it in ends] == ["Session is closed"] * 3


def test_two_waits_for_the_same_execution_both_get_the_result(losant: Emulator, notebook: str) -> None:
    run = execute(losant, notebook, Script(notebook=0.2))

    async def main() -> list[Event]:
        return await asyncio.gather(*(wait(losant, notebook, run) for _ in range(2)))

    assert [it["result"]["execution_id"] for it in asyncio.run(main())] == [run, run]


def test_an_outage_does_not_end_all_its_waits_at_once(losant: Emulator, notebook: str) -> None:
    runs = [execute(losant, notebook, Script(ending="hang")) for _ in range(40)]
    losant.inject("notebook.logs", Fault("server_error", status=503), times=1_000)

    async def main() -> list[tuple[int, Event]]:
        async def end_of(run: str) -> tuple[int, Event]:
            event = await wait(losant, notebook, run, max_poll_outage=4.0)
            return len(poll_times(losant)), event

        return await asyncio.gather(*(end_of(run) for run in runs))

    ends = asyncio.run(main())

    assert {event["ending"] for _, event in ends} == {"outage"}
    polls = [at for at, _ in ends]
    assert max(polls.count(at) for at in polls) <= 20


def test_a_log_longer_than_a_response_may_be_hides_only_its_oldest_entries(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_losant.api.http.decoding.MAX_BODY", 60_000)
    context = {"padding": "x" * 1_000}
    losant.script(notebook, Script(notebook=0.3))
    runs = [LosantHook().execute_notebook(notebook, template_context=context) for _ in range(60)]
    other = losant.add_notebook("Other")
    elsewhere = execute(losant, other, Script(notebook=0.3))
    losant.inject("notebook.logs", Fault("server_error", status=503))

    async def main() -> list[Event]:
        waits = [wait(losant, notebook, run, max_poll_outage=1.0) for run in runs]
        return await asyncio.gather(*waits, wait(losant, other, elsewhere))

    *events, neighbour = asyncio.run(main())

    assert neighbour["is_success"]
    endings = [event["ending"] for event in events]
    assert endings == ["outage"] * 40 + ["ended"] * 20
    # A limit whose response was too large is not requested at every poll.
    limits = [int(it.query["limit"]) for it in losant.requests if "limit" in it.query and notebook in it.path]
    assert sum(limit > 20 for limit in limits) <= 5
