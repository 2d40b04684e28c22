# SPDX-License-Identifier: Apache-2.0
"""What an execution looks like at different times."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.emulator.state.timeline import FINAL, STOPPED, Execution, File, Script

T0 = 1_770_000_000.0
STATUS_ORDER = ["queued", "inProgress", "canceling"]
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


def entry_at(execution: Execution, after: float) -> dict[str, object]:
    return execution.to_api(T0 + after, lambda kind, name: f"{kind}/{name}")


@pytest.mark.parametrize(
    ("after", "status", "timestamps"),
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
def test_a_scripted_execution_shows_only_what_has_happened(
    after: float, status: str, timestamps: int
) -> None:
    entry = entry_at(QUEUED.apply(SLOW), after)

    assert entry["status"] == status
    assert len([key for key in entry if key.endswith("At")]) == timestamps


def test_files_and_errors_appear_when_the_execution_has_ended() -> None:
    execution = QUEUED.apply(replace(SLOW, ending="errored", errors=(("ValueError", "boom"),)))
    execution = replace(execution, outputs={"report.csv": File(size=3, content_type="text/csv")})

    before, after = entry_at(execution, 9.9), entry_at(execution, 10)

    assert (before["outputInfo"], before["executionErrors"]) == ({}, [])
    assert after["outputInfo"] == {
        "report.csv": {"size": 3, "contentType": "text/csv", "url": "outputs/report.csv"}
    }
    assert after["executionErrors"] == [{"name": "ValueError", "message": "boom"}]


def test_a_timed_out_execution_never_completes_its_notebook() -> None:
    entry = entry_at(QUEUED.apply(replace(SLOW, ending="timeout")), 60)

    assert entry["status"] == "timeout"
    assert "notebookCompletedAt" not in entry
    assert "outputsCompletedAt" not in entry


def test_a_hanging_execution_stays_in_progress() -> None:
    assert QUEUED.apply(Script(ending="hang")).status(T0 + 1e9) == "inProgress"


def test_an_execution_can_end_with_an_undocumented_status() -> None:
    assert QUEUED.apply(Script(ending="paused")).status(T0 + 60) == "paused"


def test_cancelling_takes_its_delay_and_removes_later_timestamps() -> None:
    canceled = QUEUED.apply(SLOW).cancel(T0 + 4, 0.5)

    assert [canceled.status(T0 + after) for after in (0, 2, 4, 4.4, 4.5, 99)] == [
        "queued",
        "inProgress",
        "canceling",
        "canceling",
        "canceled",
        "canceled",
    ]
    assert "notebookCompletedAt" not in entry_at(canceled, 99)


def test_cancelling_twice_changes_nothing() -> None:
    once = QUEUED.apply(SLOW).cancel(T0 + 4, 0.5)

    assert once.cancel(T0 + 4.2, 0.5) is once


def test_a_real_execution_is_canceled_only_when_its_kernel_is_gone() -> None:
    assert replace(QUEUED, started_at=T0).cancel(T0 + 1, 0).status(T0 + 1e6) == "canceling"


def test_a_restart_ends_real_executions_but_not_scripted_ones() -> None:
    now = T0 + 2
    scripted = QUEUED.apply(SLOW)

    stopped = replace(QUEUED, started_at=T0).after_restart(now)

    assert (stopped.status(now), stopped.errors) == ("errored", (STOPPED,))
    assert scripted.after_restart(now) is scripted


def test_run_minutes_are_rounded_up() -> None:
    execution = QUEUED.apply(Script(queue=30, inputs=30, notebook=61))

    assert [execution.minutes(T0 + after) for after in (59, 60.5, 120.5, 500)] == [0, 1, 2, 2]


@given(script=scripts, times=st.lists(st.floats(0, 100), min_size=2))
def test_the_status_never_goes_back(script: Script, times: list[float]) -> None:
    execution = QUEUED.apply(script)
    statuses = [execution.status(T0 + after) for after in sorted(times)]
    ranks = [
        STATUS_ORDER.index(status) if status in STATUS_ORDER else len(STATUS_ORDER) for status in statuses
    ]

    assert all(before <= after for before, after in pairwise(ranks))


@given(script=scripts, at=st.floats(0, 50), delay=st.floats(0, 5))
def test_an_execution_cancelled_before_its_end_is_canceled(script: Script, at: float, delay: float) -> None:
    execution = QUEUED.apply(script)
    if execution.is_over(T0 + at):
        return

    assert execution.cancel(T0 + at, delay).status(T0 + at + delay + 1e-3) == "canceled"
    assert "canceled" in FINAL


@given(script=scripts)
def test_a_script_can_be_converted_to_json_and_back(script: Script) -> None:
    complete = replace(script, files={"a.bin": b"\x00\xff"}, errors=(("E", "m"),))

    assert Script.from_json(complete.as_json()) == complete


@pytest.mark.parametrize("name", ["../x", "/etc/x", "..", ""])
def test_a_file_of_a_script_cannot_be_outside_of_its_folder(name: str) -> None:
    with pytest.raises(ValueError, match="invalid file name"):
        Script.from_json({"files": {name: "x"}})


def test_an_unknown_key_of_a_script_is_rejected_by_name() -> None:
    with pytest.raises(ValueError, match="ednign"):
        Script.from_json({"ednign": "completed"})
