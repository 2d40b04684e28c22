# SPDX-License-Identifier: Apache-2.0
"""The progress of a command fits its terminal, and says what is being done."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.support.environment import _run
from tests.support.progress import Step


class Terminal(io.StringIO):
    """A terminal that keeps what is printed."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_line_of_progress_is_narrower_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())

    with Step("Running the example DAGs") as step:
        step.note("tasks: 3 running; notebooks: 3 completed, and many more words that say what happens")

    *updates, last = terminal.getvalue().split("\r\033[K")
    assert last.endswith("\n")
    assert all(len(line.rstrip("\n")) < columns for line in [*updates, last])
    assert "\n" not in "".join(updates)


@pytest.mark.parametrize(
    ("printed", "note"),
    [
        ("Collecting requests>=2.31 (from x)", "downloading requests>=2.31"),
        ("Resolved 231 packages in 2.31s", "downloading 231 packages"),
        ("Prepared 1 package in 12ms", "unpacking 1 package"),
        ("Installed 231 packages in 3s", "compiling 231 packages"),
        ("Installing collected packages: a, b", ""),
        ("", ""),
    ],
)
def test_the_progress_of_an_installation_says_what_comes_next(
    printed: str, note: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Step("install") as step:
        _run(step, tmp_path / "install.log", [sys.executable, "-c", f"print({printed!r})"])

    assert capsys.readouterr().out.splitlines()[-1].partition(" s)")[2].strip() == note
