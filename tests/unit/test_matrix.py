# SPDX-License-Identifier: Apache-2.0
"""The table of all Airflows counts what pytest reports, and takes nothing for good that it cannot count."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests import matrix
from tests.matrix import Cell, Result, cells, counted, later_pythons, own_cell, table
from tests.support.airflow_versions import LOWEST, MINORS, NEWEST, is_for

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
NEXT = f"{sys.version_info.major}.{sys.version_info.minor + 1}"
REPORT = (
    '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/>'
    '<testsuite tests="1" failures="0" errors="0" skipped="0"/></testsuites>'
)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report.xml"


def test_passed_failed_and_skipped_are_counted_and_an_error_is_a_failure(report: Path) -> None:
    report.write_text(REPORT)

    assert counted(report, 1) == Result(passed=4, failed=3, skipped=3)


@pytest.mark.parametrize("text", [None, "", "<testsuites><testsuite tests="])
def test_without_a_readable_report_the_result_is_not_ok(report: Path, text: str | None) -> None:
    if text is not None:
        report.write_text(text)

    result = counted(report, 0)

    assert not result.is_good
    assert "no report" in result.problem


def test_an_unexplained_exit_code_is_a_problem(report: Path) -> None:
    report.write_text('<testsuites><testsuite tests="1" failures="0" errors="0" skipped="0"/></testsuites>')

    assert counted(report, 0).is_good
    assert counted(report, 3).problem == "ended with 3"
    assert not counted(report, 3).is_good


def test_tests_that_never_end_are_stopped(report: Path) -> None:
    assert not counted(report, None).is_good


def test_no_tests_at_all_are_not_ok() -> None:
    assert not Result(skipped=7).is_good


def test_every_airflow_is_tested_on_this_python_and_the_newest_on_the_later_ones() -> None:
    chosen = cells(MINORS, [("3.99", Path("/python3.99"))])

    assert [(it.airflow, it.python) for it in chosen] == [
        *((minor, OWN) for minor in MINORS),
        (NEWEST, "3.99"),
    ]


def test_an_older_airflow_alone_is_not_tested_on_later_pythons() -> None:
    assert [it.python for it in cells(MINORS[:2], [("3.99", Path("/python3.99"))])] == [OWN, OWN]


def test_only_the_newest_airflow_on_this_python_shares_the_environment_of_the_other_tests() -> None:
    chosen = cells(MINORS, [("3.99", Path("/python3.99"))])

    assert [it for it in chosen if "--airflow" not in it.command([], Path("report.xml"))] == [
        Cell(airflow=NEWEST, python=OWN, interpreter=sys.executable)
    ]


def test_the_lowest_versions_have_an_environment_and_a_title_of_their_own() -> None:
    cell = own_cell(NEWEST, lowest=True)

    assert cell.command([], Path("report.xml"))[1:6] == ["-m", "tests", "--airflow", NEWEST, "--lowest"]
    assert cell.title == f"Airflow {NEWEST} on Python {OWN}, lowest versions"
    assert "--lowest" not in own_cell(NEWEST).command([], Path("report.xml"))


def test_only_the_oldest_and_the_newest_airflow_are_tested_with_the_lowest_versions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(LOWEST) == [MINORS[0], NEWEST]

    with pytest.raises(SystemExit):
        matrix.main(["--lowest", MINORS[1]])
    assert f"no constraints for Airflow {MINORS[1]}" in capsys.readouterr().err


def test_a_broken_interpreter_is_skipped(tmp_path: Path) -> None:
    shim, real = tmp_path / "shims" / f"python{NEXT}", tmp_path / "real" / f"python{NEXT}"
    for file, code in ((shim, 127), (real, 0)):
        file.parent.mkdir()
        file.write_text(f"#!/bin/sh\nexit {code}\n")
        file.chmod(0o755)

    assert list(later_pythons([tmp_path, shim.parent, real.parent])) == [(NEXT, real)]


def test_tests_that_take_too_long_are_stopped_with_all_they_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nsleep 60 &\nwait\n")
    endless.chmod(0o755)
    monkeypatch.setattr(matrix, "LIMIT", 0.2)

    cell = Cell(airflow=NEWEST, python=OWN, interpreter=str(endless))

    assert asyncio.run(matrix.test(cell, [], tmp_path / "report.xml", tmp_path / "log")) is None


def test_the_table_has_a_line_for_each_environment() -> None:
    good, bad = (Cell(airflow=minor, python=OWN, interpreter="") for minor in MINORS[:2])
    results = {
        good: (Result(passed=1234, skipped=5), 61.4),
        bad: (Result(problem="ended with 4 and no report"), 2.0),
    }

    assert [line.split(maxsplit=6) for line in table(results).splitlines()] == [
        ["Airflow", "Python", "passed", "failed", "skipped", "seconds"],
        [MINORS[0], OWN, "1234", "0", "5", "61"],
        [MINORS[1], OWN, "0", "0", "0", "2", "ended with 4 and no report"],
    ]


@pytest.mark.parametrize(
    ("version", "since", "before", "expected"),
    [
        ("3.0.6", None, None, True),
        ("3.0.6", "3.0", None, True),
        ("2.11.2", "3.0", None, False),
        ("3.2.2", None, "3.3", True),
        ("3.3.0", None, "3.3", False),
        ("3.10.0", "3.9", None, True),
        ("3.3.0rc1", "3.3", "3.4", True),
    ],
)
def test_a_test_is_for_the_airflows_from_one_on_and_before_another(
    version: str, since: str | None, before: str | None, *, expected: bool
) -> None:
    assert is_for(version, since=since, before=before) is expected
