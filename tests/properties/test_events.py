# SPDX-License-Identifier: Apache-2.0
"""Values that are sent between processes arrive unchanged: outcomes, checkpoints and triggers."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.flows.completions import Checkpoint
from airflow_provider_losant.api.flows.outcome import Outcome
from airflow_provider_losant.api.model import Execution
from airflow_provider_losant.triggers.notebook import (
    LosantNotebookEventTrigger,
    LosantNotebookExecutionTrigger,
)
from tests.properties.responses import ANYTHING, EXECUTION
from tests.support.factories import APPLICATION_ID, EXECUTION_ID, NOTEBOOK_ID
from tests.support.hypothesis_settings import often

SECONDS = st.floats(0, 4e9)
TEXT = st.text(max_size=30)
OUTCOMES = st.builds(
    Outcome,
    ending=st.sampled_from(("ended", "deadline", "outage", "refused")),
    result=EXECUTION.map(lambda it: Execution.from_api(it).to_result()),
    is_success=st.booleans(),
    errors=st.lists(st.fixed_dictionaries({"name": TEXT, "message": TEXT}), max_size=2),
    error_log=st.none() | TEXT,
    problem=st.none() | TEXT,
    is_cancelled=st.booleans(),
)


@often
@given(OUTCOMES)
def test_an_outcome_survives_the_round_trip_through_an_event(outcome: Outcome) -> None:
    assert Outcome.from_event(json.loads(json.dumps(outcome.to_event()))) == outcome


@often
@given(st.dictionaries(st.text(max_size=12), ANYTHING, max_size=4))
def test_foreign_events_are_recognised_as_foreign(event: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not the event of a notebook wait"):
        Outcome.from_event(event)


@often
@given(SECONDS, st.dictionaries(st.text("0123456789abcdef", min_size=24, max_size=24), SECONDS, max_size=5))
def test_a_checkpoint_survives_being_stored(since: float, delivered: dict[str, float]) -> None:
    checkpoint = Checkpoint(since=since, delivered=delivered)

    assert Checkpoint.from_json(json.loads(json.dumps(checkpoint.to_json()))) == checkpoint


ARGUMENTS: dict[type, st.SearchStrategy[dict[str, Any]]] = {
    LosantNotebookExecutionTrigger: st.fixed_dictionaries(
        {
            "losant_conn_id": TEXT,
            "application_id": st.just(APPLICATION_ID),
            "notebook_id": st.just(NOTEBOOK_ID),
            "execution_id": st.sampled_from((EXECUTION_ID, None)),
            "since": SECONDS,
            "poll_interval": SECONDS,
            "deadline": SECONDS,
            "max_poll_outage": SECONDS,
        },
        optional={"not_before": SECONDS, "cancel_on_kill": st.booleans(), "cancel_on_timeout": st.booleans()},
    ),
    LosantNotebookEventTrigger: st.fixed_dictionaries(
        {"notebook_id": st.just(NOTEBOOK_ID)},
        optional={
            "application_id": st.sampled_from((APPLICATION_ID, None)),
            "statuses": st.lists(
                st.sampled_from(("completed", "errored", "timeout", "canceled")), min_size=1, unique=True
            ),
            "poll_interval": st.floats(1, 1e6),
            "losant_conn_id": st.text(min_size=1, max_size=20),
        },
    ),
}


@pytest.mark.airflow(since="3.0")
@pytest.mark.parametrize("kind", ARGUMENTS, ids=lambda kind: kind.__name__)
def test_a_trigger_survives_the_round_trip_through_the_database(kind: type) -> None:
    @often
    @given(ARGUMENTS[kind])
    def check(arguments: dict[str, Any]) -> None:
        path, delivered = kind(**arguments).serialize()
        stored = json.loads(json.dumps(delivered))
        module, _, name = path.rpartition(".")

        again = getattr(import_module(module), name)(**stored)

        assert json.loads(json.dumps(again.serialize())) == [path, stored]
        assert stored.items() >= json.loads(json.dumps(arguments)).items() or "statuses" in arguments

    check()
