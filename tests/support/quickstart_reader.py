# SPDX-License-Identifier: Apache-2.0
"""Follow a page exactly: save its files, type its commands, and compare their output."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

from tests.support.pages import Block, Page
from tests.support.processes import wait_for
from tests.support.tables import VARIABLE

COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BASH = ("bash", "--noprofile", "--norc", "--noediting", "-i")
# What a shell runs in the background, perhaps the tests, ignores these signals, and so does what it starts.
TERMINAL = """
import pty, signal, sys
for ignored in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    signal.signal(ignored, signal.SIG_DFL)
pty.spawn(sys.argv[1:])
"""
OPTION = re.compile(r"^:([\w-]+): (.*)\n", re.MULTILINE)


@dataclass(kw_only=True)
class Command:
    """A command of a page, and the end of the output that the page shows; ``…`` stands for any text."""

    text: str
    shown: str = ""

    def fits(self, printed: str) -> bool:
        """Return whether an output ends as shown."""
        if not self.shown:
            return True
        pattern = ".*".join(re.escape(part) for part in self.shown.strip().split("…"))
        return re.search(rf"(?:^|\n){pattern}\s*$", printed, re.DOTALL) is not None


@dataclass(frozen=True, kw_only=True)
class Section:
    """The files and commands of a section."""

    files: Mapping[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)

    @classmethod
    def sections(cls, path: Path) -> dict[str, Self]:
        """Return the sections of a page by heading."""
        page = Page(path)
        heads = {
            page.text.count("\n", 0, it.start()) + 1: it[1]
            for it in re.finditer(r"^## (.*)$", page.text, re.MULTILINE)
        }
        blocks: dict[str, list[Block]] = {heading: [] for heading in heads.values()}
        for block in page.blocks:
            if above := [heading for line, heading in heads.items() if line < block.line]:
                blocks[above[-1]].append(block)
        return {heading: cls._read(its) for heading, its in blocks.items()}

    @classmethod
    def _read(cls, blocks: Iterable[Block]) -> Self:
        files: dict[str, str] = {}
        commands: list[Command] = []
        for block in blocks:
            options = dict(OPTION.findall(block.body))
            if block.kind == "{literalinclude}" and "caption" in options:
                files[options["caption"]] = _included(block.included.read_text(), options)
            elif block.kind == "shell":
                commands += [Command(text=it) for it in block.typed]
            elif block.kind == "text":
                commands[-1].shown = block.body
        return cls(files=files, commands=commands)


def _included(text: str, options: Mapping[str, str]) -> str:
    """Return the part of a file that a page includes."""
    lines = text.splitlines(keepends=True)
    first, last = (options.get(name, "").strip('"') for name in ("start-after", "end-before"))
    begin = next(i for i, line in enumerate(lines) if first in line) + 1 if first else 0
    end = next(i for i, line in enumerate(lines) if last in line) if last else None
    return "".join(lines[begin:end])


class Shell:
    """
    One shell in a terminal of 80 columns, from the first command to the last.

    :param home: The home directory and the working directory.
    :param environment: All other environment variables.
    """

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self._output = home.with_suffix(".log")
        self._begin, self._prompt = 0, f"<{secrets.token_hex(8)}>"
        with self._output.open("wb") as output:
            self._terminal = subprocess.Popen(
                [sys.executable, "-c", TERMINAL, *BASH],
                cwd=home,
                # By the variable of the run it is found if it outlives the tests.
                env={"HOME": str(home), "TERM": "dumb", **environment, VARIABLE: os.environ[VARIABLE]},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        children = psutil.Process(self._terminal.pid).children
        (self._shell,) = wait_for(children, what="a shell", timeout=20)

    def __enter__(self) -> Self:
        self.type(Command(text=f"stty -echo -onlcr cols 80; PS2= PS1='{self._prompt}$?\\n'"), timeout=20)
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.left_behind(), self._shell]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._terminal.communicate(timeout=20)

    def type(self, command: Command, *, timeout: float) -> str:
        """
        Type a command, wait for its end, and return its output.

        :param timeout: Seconds.
        :raises TimeoutError: it did not end in time, or its output is not the one that is shown.
        """
        self._begin = self._output.stat().st_size
        assert self._terminal.stdin is not None
        self._terminal.stdin.write(f"{command.text}\n".encode())
        self._terminal.stdin.flush()
        try:
            status = wait_for(self._status, what="its end", timeout=timeout)
            assert status == "0", f"It ended with {status}."
            # A background process may print something after the command has ended.
            wait_for(lambda: command.fits(self._output_text()), what=f"\n{command.shown}", timeout=20)
        except (TimeoutError, AssertionError) as error:
            error.add_note(f"$ {command.text}\n{self._output_text()[-6000:]}")
            raise
        return self._output_text()

    def save(self, files: Mapping[str, str]) -> None:
        """Save files in the working directory of the shell."""
        folder = Path(self._shell.cwd())
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(content)

    def left_behind(self) -> list[psutil.Process]:
        """Return all processes that were started here and still run, whatever their parent is now."""
        found = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(process.pid) == self._shell.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return [it for it in found if it != self._shell]

    def _raw_output(self) -> str:
        raw = self._output.read_bytes()[self._begin :].decode(errors="replace")
        return COLOUR.sub("", raw)

    def _output_text(self) -> str:
        return re.sub(rf"(\(\S+\) )?{self._prompt}\d+\n", "", self._raw_output())

    def _status(self) -> str | None:
        found = re.search(rf"{self._prompt}(\d+)\n", self._raw_output())
        return found and found[1]
