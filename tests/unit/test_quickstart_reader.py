# SPDX-License-Identifier: Apache-2.0
"""The reader of the quickstart saves every file and types every command of a page."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.quickstart_reader import Command, Section, Shell

PAGE = """# Title

## Save

```{literalinclude} files/dag.py
:caption: dags/dag.py
:start-after: "[START it]"
:end-before: "[END it]"
```

```{literalinclude} files/dag.py
:language: python
```

## Run

```shell
export A='{
  "b": 1}'
run
```

```text
… state=success, …
```
"""


def test_named_files_are_saved_and_every_command_is_typed(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "dag.py").write_text("# [START it]\na = 1\n\nb = 2\n# [END it]\n")
    (tmp_path / "page.md").write_text(PAGE)

    sections = Section.sections(tmp_path / "page.md")

    assert sections["Save"].files == {"dags/dag.py": "a = 1\n\nb = 2\n"}
    assert [it.text for it in sections["Run"].commands] == ["export A='{\n  \"b\": 1}'", "run"]
    assert [it.shown for it in sections["Run"].commands] == ["", "… state=success, …\n"]


@pytest.mark.parametrize(
    ("shown", "printed", "fits"),
    [
        ("", "anything", True),
        ("… state=success, …", "log\nRun, state=success, at\n", True),
        ("… state=success, …", "log\nRun, state=failed, at\n", False),
        ("42 kWh", "noise\n42 kWh\n", True),
        ("42 kWh", "142 kWh\n", False),
        ("42 kWh", "42 kWh\nand more\n", False),
        ("one\n… three", "one\ntwo three", True),
        ("one\n… three", "three\none", False),
    ],
)
def test_the_shown_text_must_be_the_end_of_the_output(shown: str, printed: str, fits: bool) -> None:
    assert Command(text="run", shown=shown).fits(printed) is fits


def test_commands_can_be_interrupted_also_if_the_tests_run_in_the_background(tmp_path: Path) -> None:
    # As a shell does for what it runs in the background.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Shell(tmp_path, {"PATH": "/usr/bin:/bin"}) as typed:
            for command in ("sleep 60 &", "kill -INT $!"):
                typed.type(Command(text=command), timeout=20)
            with pytest.raises(AssertionError, match=f"It ended with {128 + signal.SIGINT}"):
                typed.type(Command(text="wait $!"), timeout=20)
    finally:
        signal.signal(signal.SIGINT, before)
