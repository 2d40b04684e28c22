# SPDX-License-Identifier: Apache-2.0
"""What crosses from the triggerer to a worker is small, and may be of another version."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_losant.api.fields import MAX_ERROR, MAX_ERRORS, MAX_EVENT, MAX_NAME
from airflow_provider_losant.api.flows.outcome import Outcome
from tests.support.factories import EXECUTION_ID, execution

LONGEST_IN_JSON = "\N{SNOWMAN}\x00\N{PILE OF POO}"
"""Characters of which JSON needs six to twelve bytes each."""


def size(value: Any) -> int:
    return len(json.dumps(value))


def outcome_of(**entry: Any) -> Outcome:
    found = execution("errored", **entry)
    return Outcome(ending="ended", result=found.to_result(), errors=found.errors)


def errors(count: int, message: str, name: str = "ValueError") -> list[dict[str, Any]]:
    return [{"name": name, "message": message, "more": {"nested": message}} for _ in range(count)]


def files(count: int, name: str = "file", content_type: str = "text/csv") -> dict[str, Any]:
    return {f"{name}-{it}": {"size": it, "contentType": content_type, "url": "x"} for it in range(count)}


# -- size -------------------------------------------------------------------------------------------------


def test_the_first_errors_are_kept_and_the_others_counted() -> None:
    event = outcome_of(executionErrors=errors(20_000, "m" * 1_000)).to_event()

    assert event["errors"][:MAX_ERRORS] == [{"name": "ValueError", "message": "m" * 1_000}] * MAX_ERRORS
    assert event["errors"][MAX_ERRORS:] == [{"name": "Left out", "message": "19,980 more errors"}]
    assert size(event) <= MAX_EVENT


def test_a_long_error_is_cut_and_says_how_much_is_missing() -> None:
    [error] = execution("errored", executionErrors=errors(1, "m" * 10**6, "N" * 10**6)).errors

    assert error["message"] == "m" * MAX_ERROR + "... (998,000 more characters)"
    assert error["name"].startswith("N" * MAX_NAME + "... (")


def test_as_many_errors_as_are_kept_fit_into_an_event_unshortened() -> None:
    outcome = outcome_of(executionErrors=errors(MAX_ERRORS, "m" * MAX_ERROR))

    assert outcome.to_event()["errors"] == list(outcome.errors)
    assert size(outcome.to_event()) <= MAX_EVENT


def test_results_with_thousands_of_files_are_bounded_and_count_the_rest() -> None:
    found = execution("completed", inputInfo=files(2_000, "in"), outputInfo=files(2_000, "out"))
    result = found.to_result()

    assert size(result) <= MAX_EVENT
    assert len(result["outputs"]) + len(result["inputs"]) + result["files_left_out"] == 4_000
    assert next(iter(result["outputs"])) == "out-0"
    assert "files_left_out" not in execution(outputInfo=files(100)).to_result()


def test_a_file_whose_name_has_no_room_leaves_room_for_the_others() -> None:
    result = execution(outputInfo={"n" * 10**6: {"size": 1}, **files(3)}).to_result()

    assert list(result["outputs"]) == ["file-0", "file-1", "file-2"]
    assert result["files_left_out"] == 1


def test_everything_at_once_in_characters_that_json_makes_longest_fits_into_an_event() -> None:
    text = LONGEST_IN_JSON * 10_000
    everything = outcome_of(
        executionErrors=errors(1_000, text, text),
        inputInfo=files(3_000, LONGEST_IN_JSON * 20, text),
        outputInfo=files(3_000, LONGEST_IN_JSON * 20, text),
    )
    outcome = Outcome(
        ending="ended",
        result=everything.result,
        errors=everything.errors,
        error_log=text[-4_000:],
        problem=text,
    )
    event = outcome.to_event()
    again = Outcome.from_event(event)

    assert size(event) <= MAX_EVENT
    assert len(again.errors) == MAX_ERRORS + 1
    assert again.error_log
    assert outcome.error_log is not None
    assert outcome.error_log.endswith(again.error_log)
    kept = len(again.result["inputs"]) + len(again.result["outputs"])
    assert kept + again.result["files_left_out"] == 6_000


@pytest.mark.parametrize(
    "odd",
    [
        {"status": "s" * 10**6},
        {"applicationId": "a" * 10**6},
        {"notebookId": "n" * 10**6},
        {"outputInfo": files(1, content_type="c" * 10**6)},
        {"templateContext": "t" * 10**6},
    ],
    ids=lambda it: next(iter(it)),
)
def test_a_huge_string_in_any_field_does_not_reach_a_result(odd: dict[str, Any]) -> None:
    found = execution(**odd)

    assert size(found.to_result()) < 2_000
    assert len(found.phase) < 1_000


# -- other versions ---------------------------------------------------------------------------------------


def test_an_event_of_a_newer_version_is_read_without_its_new_keys() -> None:
    outcome = outcome_of()
    event = outcome.to_event() | {"attempts": 3, "more": {"nested": []}}

    assert Outcome.from_event(event).to_event() == outcome.to_event()


def test_an_event_of_an_older_version_is_read_without_the_keys_that_it_lacks() -> None:
    event = {"ending": "ended", "result": {"execution_id": EXECUTION_ID}, "is_success": True}

    outcome = Outcome.from_event(event)

    assert (outcome.is_success, outcome.errors, outcome.is_cancelled) == (True, (), False)


@pytest.mark.parametrize("event", [{"result": {}}, {"ending": "ended"}, {"ending": "ended", "result": None}])
def test_an_event_without_the_outcome_itself_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not the event of a notebook wait"):
        Outcome.from_event(event)
