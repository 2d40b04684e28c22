# SPDX-License-Identifier: Apache-2.0
"""The life of an execution, without a clock that ticks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.emulator.state.timeline import FINAL, STOPPED, Execution, File, Script

T0 = 1_770_000_000.0
ORDER = ["queued", "inProgress", "canceling"]
QUEUED = Execution(
    id="6" * 24,
    notebook_id="7" * 24,
    application_id="8" * 24,
    queued_at=T0,
    relative_to=T0,
    max_minutes=5,
    image_version="v4",
    source_id="9" * 24,
)
SLOW = Script(queue=1, inputs=2, notebook=3, outputs=4)
seconds = st.floats(0, 10)
scripts = st.builds(
    Script,
    queue=seconds,
    inputs=seconds,
    notebook=seconds,
    outputs=seconds,
    ending=st.sampled_from(["completed", "errored", "timeout", "paused", "hang"]),
)


def shown(execution: Execution, after: float) -> dict[str, object]:
    return execution.to_api(T0 + after, lambda kind, name: f"{kind}/{name}")


@pytest.mark.parametrize(
    ("after", "status", "marks"),
    [
        (0, "queued", 1),
        (0.9, "queued", 1),
        (1, "inProgress", 2),
        (3, "inProgress", 3),
        (6, "inProgress", 4),
        (9.9, "inProgress", 4),
        (10, "completed", 5),
        (9999, "completed", 5),
    ],
)
def test_a_scripted_execution_shows_only_what_has_happened(after: float, status: str, marks: int) -> None:
    entry = shown(QUEUED.apply(SLOW), after)

    assert entry["status"] == status
    assert len([key for key in entry if key.endswith("At")]) == marks


def test_files_and_errors_appear_when_they_are_there_and_not_before() -> None:
    line = QUEUED.apply(replace(SLOW, ending="errored", errors=(("ValueError", "boom"),)))
    line = replace(line, outputs={"report.csv": File(size=3, content_type="text/csv")})

    before, after = shown(line, 9.9), shown(line, 10)

    assert (before["outputInfo"], before["executionErrors"]) == ({}, [])
    assert after["outputInfo"] == {
        "report.csv": {"size": 3, "contentType": "text/csv", "url": "outputs/report.csv"}
    }
    assert after["executionErrors"] == [{"name": "ValueError", "message": "boom"}]


def test_a_timed_out_execution_never_completes_its_notebook() -> None:
    entry = shown(QUEUED.apply(replace(SLOW, ending="timeout")), 60)

    assert entry["status"] == "timeout"
    assert "notebookCompletedAt" not in entry
    assert "outputsCompletedAt" not in entry


def test_a_hanging_execution_stays_in_progress() -> None:
    assert QUEUED.apply(Script(ending="hang")).status(T0 + 1e9) == "inProgress"


def test_an_execution_can_end_in_a_word_that_nobody_has_documented() -> None:
    assert QUEUED.apply(Script(ending="paused")).status(T0 + 60) == "paused"


def test_cancelling_takes_its_time_and_undoes_the_future() -> None:
    canceled = QUEUED.apply(SLOW).cancel(T0 + 4, 0.5)

    assert [canceled.status(T0 + after) for after in (0, 2, 4, 4.4, 4.5, 99)] == [
        "queued",
        "inProgress",
        "canceling",
        "canceling",
        "canceled",
        "canceled",
    ]
    assert "notebookCompletedAt" not in shown(canceled, 99)


def test_cancelling_twice_changes_nothing() -> None:
    once = QUEUED.apply(SLOW).cancel(T0 + 4, 0.5)

    assert once.cancel(T0 + 4.2, 0.5) is once


def test_a_real_execution_is_canceled_only_when_its_kernel_is_gone() -> None:
    assert replace(QUEUED, started_at=T0).cancel(T0 + 1, 0).status(T0 + 1e6) == "canceling"


def test_a_restart_ends_what_had_a_kernel_and_lets_scripts_go_on() -> None:
    now = T0 + 2
    scripted = QUEUED.apply(SLOW)

    stopped = replace(QUEUED, started_at=T0).after_restart(now)

    assert (stopped.status(now), stopped.errors) == ("errored", (STOPPED,))
    assert scripted.after_restart(now) is scripted


def test_a_begun_minute_counts_whole() -> None:
    line = QUEUED.apply(Script(queue=30, inputs=30, notebook=61))

    assert [line.minutes(T0 + after) for after in (59, 60.5, 120.5, 500)] == [0, 1, 2, 2]


@given(script=scripts, looks=st.lists(st.floats(0, 100), min_size=2))
def test_a_life_never_goes_backwards(script: Script, looks: list[float]) -> None:
    line = QUEUED.apply(script)
    statuses = [line.status(T0 + after) for after in sorted(looks)]
    ranks = [ORDER.index(status) if status in ORDER else len(ORDER) for status in statuses]

    assert all(before <= after for before, after in pairwise(ranks))


@given(script=scripts, at=st.floats(0, 50), delay=st.floats(0, 5))
def test_whatever_is_cancelled_before_its_end_ends_as_canceled(
    script: Script, at: float, delay: float
) -> None:
    line = QUEUED.apply(script)
    if line.is_over(T0 + at):
        return

    assert line.cancel(T0 + at, delay).status(T0 + at + delay + 1e-3) == "canceled"
    assert "canceled" in FINAL


@given(script=scripts)
def test_a_script_survives_the_way_through_json(script: Script) -> None:
    whole = replace(script, files={"a.bin": b"\x00\xff"}, errors=(("E", "m"),))

    assert Script.from_json(whole.as_json()) == whole


@pytest.mark.parametrize("name", ["../x", "/etc/x", "..", ""])
def test_a_scripted_file_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(ValueError, match="invalid file name"):
        Script.from_json({"files": {name: "x"}})


def test_a_misspelt_script_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="ednign"):
        Script.from_json({"ednign": "completed"})
