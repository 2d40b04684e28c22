# SPDX-License-Identifier: Apache-2.0
"""Waits and event triggers that choose executions by status and template context, without an event loop."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.execution_log import SLICE, ExecutionLog
from airflow_provider_losant.api.fields import parse_statuses
from airflow_provider_losant.api.flows.completions import Checkpoint, CompletionFeed
from airflow_provider_losant.api.flows.execution_filter import parse_context_contains
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from tests.support.factories import APPLICATION_ID, CREATED_AT, NOTEBOOK_ID, entry, execution_id_at, iso
from tests.unit.api.long_log import ENTRIES, NOW, WAITS, poll


class CountingText(str):
    """JSON text that counts how often it is parsed: ``json.loads`` looks for a byte order mark first."""

    __slots__ = ("parses",)

    def __init__(self, *_: object) -> None:
        self.parses = 0

    def startswith(self, *given: Any) -> bool:
        self.parses += 1
        return super().startswith(*given)


def ended(second: int, context: object = None, status: str = "completed", **more: Any) -> dict[str, Any]:
    """Return an execution that was queued in a second and ended after three."""
    text = context if isinstance(context, str) else json.dumps(context)
    return entry(
        status,
        execution_id_at(second),
        **{"outputsCompletedAt": iso(CREATED_AT + second + 3), "templateContext": text, **more},
    )


def wait(context: object = None, statuses: tuple[str, ...] = (), since: float = CREATED_AT) -> Wait:
    target = Target(
        application_id=APPLICATION_ID,
        notebook_id=NOTEBOOK_ID,
        since=since,
        statuses=statuses,
        context_contains=None if context is None else json.dumps(context),
    )
    return Wait(target, WaitConfig(poll_interval=20.0, deadline=NOW + 3_600, max_poll_outage=600.0))


def found(entries: list[Any], one: Wait) -> str | None:
    """Return the id of the execution with which a wait ends after a response; None if it continues."""
    log = ExecutionLog(entries)
    while one.on_response(log, NOW) is None:
        pass
    return one.execution.ref.execution_id if one.execution is not None else None


CONTAINED: list[tuple[object, object]] = [
    ({"site": "north"}, {"site": "north"}),
    ({"site": "north", "day": 1}, {"site": "north"}),
    ({"site": "north", "day": 1}, {"day": 1, "site": "north"}),
    ({"day": 1.0}, {"day": 1}),
    ({"on": True, "off": None}, {"on": True, "off": None}),
    ({"a": {"b": {"c": 1, "d": 2}, "e": 3}}, {"a": {"b": {"c": 1}}}),
    ({"a": {"b": 1}}, {"a": {}}),
    ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}),
    ({"a": []}, {"a": []}),
    ({"é": "ü"}, {"é": "ü"}),
    ({"airflow": {"dag_id": "energy", "try_number": 1}}, {"airflow": {"dag_id": "energy"}}),
]
NOT_CONTAINED: list[tuple[object, object]] = [
    ({}, {"site": "north"}),
    ({"site": "south"}, {"site": "north"}),
    ({"site": "North"}, {"site": "north"}),
    ({"day": "1"}, {"day": 1}),
    ({"day": True}, {"day": 1}),
    ({"day": 0}, {"day": False}),
    ({"a": [True]}, {"a": [1]}),
    ({}, {"site": None}),
    ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}),
    ({"a": 1}, {"a": {}}),
    ({"a": [1, 2]}, {"a": [1]}),
    ({"a": [1, 2]}, {"a": [2, 1]}),
    ({"a": [{"b": 2, "c": 3}]}, {"a": [{"b": 2}]}),
    ({"a": {"site": "north"}}, {"site": "north"}),
]


@pytest.mark.parametrize(("context", "wanted"), CONTAINED, ids=str)
def test_a_context_with_the_wanted_keys_and_values_is_selected(context: object, wanted: object) -> None:
    assert found([ended(1, context)], wait(wanted)) == execution_id_at(1)


@pytest.mark.parametrize(("context", "wanted"), NOT_CONTAINED, ids=str)
def test_a_context_without_the_wanted_keys_or_values_is_not_selected(context: object, wanted: object) -> None:
    one = wait(wanted)

    assert found([ended(1, context)], one) is None
    assert one.demand is not None


ODD: dict[str, Any] = {
    "empty": {"templateContext": ""},
    "missing": {"templateContext": None},
    "not JSON": {"templateContext": "{site: north}"},
    "a list": {"templateContext": '["site", "north"]'},
    "a number": {"templateContext": "1e999"},
    "text": {"templateContext": '"site"'},
    "an object": {"templateContext": {"site": "north"}},
    "nested too deep": {"templateContext": '{"site":' * 100_000 + "1" + "}" * 100_000},
    "cut": {"templateContext": '{"site": "nor'},
    "of an unknown shape": {"outputInfo": "none", "templateContext": '{"site": "north"}'},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_execution_with_an_odd_context_has_no_effect(odd: dict[str, Any]) -> None:
    entries = [ended(2, {"site": "north"}), ended(1, **odd), "no entry", {"id": 7}]

    assert found(entries, wait({"site": "north"})) == execution_id_at(2)


DEEP: dict[str, str | None] = {"objects": "ended", "objects in a list": None}
"""How a wait ends; those in a list are compared with more calls for each level."""


@pytest.mark.parametrize("kind", DEEP)
def test_a_wanted_context_that_is_nested_deep_does_not_end_the_polls(kind: str) -> None:
    deep: Any = "x"
    for _ in range(700):
        deep = {"a": deep}
    if kind == "objects in a list":
        deep = {"a": [deep]}
    one, neighbour = wait(deep), wait({"site": "north"})

    poll([ended(2, {"site": "north"}), ended(1, deep)], one, neighbour)

    assert (one.ending, neighbour.ending) == (DEEP[kind], "ended")


def test_of_the_selected_executions_the_first_to_end_since_the_time_counts() -> None:
    entries = [
        ended(6, {"site": "north"}),
        ended(5, {"site": "north"}, outputsCompletedAt=iso(CREATED_AT + 100)),
        ended(4, {"site": "south"}),
        entry("inProgress", execution_id_at(3), templateContext='{"site": "north"}'),
        ended(1, {"site": "north"}),
    ]

    assert found(entries, wait({"site": "north"}, since=CREATED_AT + 2)) == execution_id_at(6)


def test_only_the_given_statuses_end_a_wait() -> None:
    entries = [
        ended(4, status="completed"),
        ended(3, status="canceled"),
        ended(2, status="errored"),
        ended(1, status="timeout"),
    ]

    assert found(entries, wait(statuses=("completed",))) == execution_id_at(4)
    assert found(entries, wait(statuses=("completed", "errored"))) == execution_id_at(2)
    assert found(entries, wait()) == execution_id_at(1)
    assert found(entries[1:], wait(statuses=("completed",))) is None


def test_status_and_context_must_both_be_as_wanted() -> None:
    entries = [
        ended(3, {"site": "north"}),
        ended(2, {"site": "south"}),
        ended(1, {"site": "north"}, status="errored"),
    ]

    assert found(entries, wait({"site": "north"}, ("completed",))) == execution_id_at(3)


def test_a_wait_ends_at_a_later_response_with_a_selected_execution() -> None:
    one = wait({"site": "north"})

    assert found([ended(1, {"site": "south"})], one) is None
    assert found([ended(2, {"site": "north"}), ended(1, {"site": "south"})], one) == execution_id_at(2)
    assert one.ending == "ended"


def test_hundreds_of_waits_with_contexts_parse_each_context_once_and_in_steps() -> None:
    texts = {second: CountingText(json.dumps({"site": second, "day": 1})) for second in range(ENTRIES + 1)}
    entries = [ended(second, texts[second]) for second in range(ENTRIES, 0, -1)]
    waits = [wait({"site": 9 * number + 1}) for number in range(WAITS)]
    in_vain = [wait({"site": -number}) for number in range(1, 20)]

    driver = poll(entries, *waits, *in_vain)

    assert {texts[second].parses for second in range(1, ENTRIES + 1)} == {1}
    selected = [it.execution.ref.execution_id for it in waits if it.execution is not None]
    assert selected == [execution_id_at(9 * number + 1) for number in range(WAITS)]
    assert {it.ending for it in in_vain} == {None}
    # A search of all entries returns to the event loop after every slice.
    assert driver.sleeps.count(0.0) >= len(waits) + len(in_vain) * ENTRIES / SLICE


def test_an_event_trigger_with_a_context_shares_the_parse_with_waits() -> None:
    texts = {second: CountingText(json.dumps({"site": second % 2})) for second in range(1, 51)}
    feed = make_feed('{"site": 1}')

    poll([ended(second, texts[second]) for second in range(50, 0, -1)], wait({"site": 7}), feed, wait())

    assert {it.parses for it in texts.values()} == {1}
    assert delivered(feed) == [execution_id_at(second) for second in range(1, 51, 2)]


def test_waits_without_a_context_parse_none() -> None:
    texts = {second: CountingText("{}") for second in range(1, 51)}

    poll([ended(second, texts[second]) for second in range(50, 0, -1)], wait(), wait(statuses=("completed",)))

    assert {it.parses for it in texts.values()} == {0}


def make_feed(context_contains: str | None) -> CompletionFeed:
    return CompletionFeed(
        APPLICATION_ID,
        NOTEBOOK_ID,
        statuses=["completed"],
        poll_interval=60.0,
        now=NOW,
        checkpoint=Checkpoint(since=CREATED_AT),
        context_contains=context_contains,
    )


def delivered(feed: CompletionFeed) -> list[str]:
    ids = []
    while (delivery := feed.next_delivery()) is not None:
        ids += [it["execution_id"] for it in delivery.results]
    return ids


def test_an_event_trigger_passes_over_executions_with_another_context_once() -> None:
    feed = make_feed('{"site": "north"}')
    entries = [ended(3, {"site": "north"}), ended(2, "not JSON"), ended(1, {"site": "south"})]

    poll(entries, feed)
    assert delivered(feed) == [execution_id_at(3)]

    poll([ended(4, {"site": "north"}), *entries], feed)
    assert delivered(feed) == [execution_id_at(4)]


@pytest.mark.parametrize("value", [None, "", "  ", "None", {}, "{}", " { } "], ids=repr)
def test_an_empty_context_counts_as_not_given(value: Any) -> None:
    assert parse_context_contains(value) is None


@pytest.mark.parametrize(
    "value", ["north", "[1]", "1", '"north"', ["site"], {"a": float("nan")}, {"a": b"1"}]
)
def test_what_is_no_json_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r'^context_contains(\["a"\])?: '):
        parse_context_contains(value)


@pytest.mark.parametrize("value", [(), [], "completed", ("done",), ("inProgress",), ([],), None, 1], ids=repr)
def test_statuses_that_are_not_final_are_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^statuses: .* is not a list of some of completed, errored"):
        parse_statuses(value)
