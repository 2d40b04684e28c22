# SPDX-License-Identifier: Apache-2.0
"""The trigger: its serialized form, its event, and when it cancels the execution."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api.flows.wait import Target, WaitConfig
from airflow_provider_losant.emulator import Emulator, Fault
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.triggers.notebook import MAX_DEFERRAL, LosantNotebookExecutionTrigger
from tests.provider.conftest import cancels, set_connection
from tests.provider.tasks import fire, trigger

if TYPE_CHECKING:
    from airflow.triggers.base import TriggerEvent

pytestmark = pytest.mark.usefixtures("losant_connection")


# -- the serialized form ----------------------------------------------------------------------------------


def test_the_serialized_arguments_are_json_without_objects_and_complete(
    losant: Emulator, notebook: str
) -> None:
    path, stored = trigger(losant, notebook, None).serialize()

    assert path == "airflow_provider_losant.triggers.notebook.LosantNotebookExecutionTrigger"
    assert json.loads(json.dumps(stored)) == stored
    assert "{" not in json.dumps(list(stored.values()))
    parameters = list(inspect.signature(LosantNotebookExecutionTrigger).parameters)
    assert [*stored, "unknown"] == parameters


def test_the_serialized_arguments_have_no_secret(losant: Emulator, notebook: str) -> None:
    assert losant.token not in json.dumps(trigger(losant, notebook, None).serialize())


def test_serialized_triggers_of_the_first_release_can_be_loaded(losant: Emulator, notebook: str) -> None:
    first: dict[str, Any] = {
        "losant_conn_id": "losant_default",
        "application_id": losant.application_id,
        "notebook_id": notebook,
        "execution_id": "0" * 24,
        "since": 1_767_225_600.0,
        "poll_interval": 20.0,
        "deadline": 1_767_312_000.0,
        "max_poll_outage": 600.0,
    }

    stored = LosantNotebookExecutionTrigger(**first).serialize()[1]

    assert stored.items() >= first.items()
    assert (stored["not_before"], stored["cancel_on_kill"], stored["cancel_on_timeout"]) == (
        0.0,
        False,
        False,
    )


# -- its event --------------------------------------------------------------------------------------------


def test_the_trigger_fires_once_with_the_public_result(losant: Emulator, notebook: str) -> None:
    execution = LosantHook().execute_notebook(notebook)

    event = fire(trigger(losant, notebook, execution))

    assert (event["ending"], event["is_success"]) == ("ended", True)
    assert event["result"]["execution_id"] == execution
    assert losant.files_url not in json.dumps(event)
    assert losant.token not in json.dumps(event)


def test_the_trigger_does_not_poll_before_not_before(losant: Emulator, notebook: str) -> None:
    execution = LosantHook().execute_notebook(notebook)
    not_before = time.time() + 0.1

    fire(trigger(losant, notebook, execution, not_before=not_before))

    assert losant.requests[1].at >= not_before - 0.01


def deferred(losant: Emulator, notebook: str) -> LosantNotebookExecutionTrigger:
    """Return the trigger of a task that is deferred just now."""
    target = Target.of(LosantHook().execution_ref(notebook, LosantHook().execute_notebook(notebook)))
    config = WaitConfig(poll_interval=1.0, deadline=time.time() + 60, max_poll_outage=5.0)
    return LosantNotebookExecutionTrigger.for_task(target, config, losant_conn_id="losant_default")


@pytest.mark.parametrize(
    ("late", "seconds"), [(-5.0, 10.0), (0.1, 10.0), (1.5, 10.0), (3.0, 18.0), (11.0, 60.0), (3_600.0, 60.0)]
)
def test_the_longer_the_triggerer_needed_the_longer_the_scheduler_gets_to_notice_the_deferral(
    losant: Emulator, notebook: str, late: float, seconds: float
) -> None:
    taken = deferred(losant, notebook)

    assert abs(taken.deferred_at - time.time()) < 10
    assert taken.scheduler_noticed_at(taken.deferred_at + late) == pytest.approx(taken.deferred_at + seconds)


def test_a_deferred_task_is_not_resumed_before_the_scheduler_knows_it_was_deferred(
    losant: Emulator, notebook: str
) -> None:
    taken = deferred(losant, notebook)
    taken.deferred_at = time.time() - MAX_DEFERRAL + 0.5

    async def first_event() -> TriggerEvent:
        return await anext(aiter(taken.run()))

    assert asyncio.run(first_event()).payload["is_success"]

    [poll] = [it for it in losant.requests if it.operation == "notebook.logs"]
    assert poll.at >= taken.deferred_at + MAX_DEFERRAL - 0.01


def test_a_deadline_passed_without_a_triggerer_still_finds_an_ended_execution(
    losant: Emulator, notebook: str
) -> None:
    execution = LosantHook().execute_notebook(notebook)
    time.sleep(0.05)

    assert fire(trigger(losant, notebook, execution, deadline=time.time() - 3600))["is_success"]


@pytest.mark.parametrize("cancel", [True, False])
def test_a_deadline_that_passed_ends_the_wait(
    losant: Emulator, notebook: str, running: str, cancel: bool
) -> None:
    event = fire(trigger(losant, notebook, running, deadline=time.time() - 1, cancel_on_timeout=cancel))

    assert (event["ending"], event["is_cancelled"]) == ("deadline", cancel)
    assert cancels(losant) == cancel


def test_an_invalid_connection_ends_the_trigger_with_its_reason(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, password="")

    with pytest.raises(Exception, match="Connection 'losant_default': password: is empty"):
        fire(trigger(losant, notebook, "0" * 24))


def test_the_event_loop_is_not_blocked_while_losant_is_silent(
    losant: Emulator, notebook: str, running: str
) -> None:
    losant.inject("notebook.logs", Fault("slow", seconds=0.2), times=5)
    gaps: list[float] = []

    async def beat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - began)

    async def main() -> None:
        heart = asyncio.create_task(beat())
        async for _ in trigger(losant, notebook, running, deadline=time.time() + 0.3).run():
            break
        heart.cancel()

    asyncio.run(main())

    assert len(gaps) > 20
    assert sorted(gaps)[len(gaps) * 9 // 10] < 0.05
