# SPDX-License-Identifier: Apache-2.0
"""Read the project's own prose: what blocks of code a page has, what its headings are, and where it leads."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.support.paths import ROOT

_FENCE = re.compile(
    r"^ *(?P<fence>`{3,}|:{3,})(?P<kind>\{?[\w-]*\}?) ?(?P<told>[^\n`]*)\n(?P<body>.*?)^ *(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_JOINTS = {"&&", "||", "|", ";", "&"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """
    A fenced block.

    :param kind: Its language, or in braces its directive.
    :param told: What follows on the same line: of an include, the file.
    """

    page: Path
    line: int
    kind: str
    told: str
    body: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def included(self) -> Path:
        """The file that an include shows."""
        return (self.page.parent / self.told).resolve()

    @property
    def typed(self) -> list[str]:
        """What somebody types of a shell block, one after the other; what that prints is left out."""
        lines = self.body.splitlines()
        if self.kind == "console":
            lines = [line.removeprefix("$ ") for line in _typed(lines)]
        return list(_whole(lines))

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a shell block, each as its words."""
        return [part for whole in self.typed for part in _split(_words(whole))]


@dataclass(frozen=True)
class Page:
    """A Markdown file of the documentation."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def blocks(self) -> list[Block]:
        return [self._block(it) for it in _FENCE.finditer(self.text)]

    def _block(self, it: re.Match[str]) -> Block:
        kind, told, body = it["kind"], it["told"].strip(), textwrap.dedent(it["body"])
        if kind == "{code-block}":  # the same as a plain one, with a caption or the like
            kind, body = told, re.sub(r"\A(:[\w-]+:.*\n)+\n*", "", body)
        line = self.text.count("\n", 0, it.start()) + 1
        return Block(page=self.path, line=line, kind=kind, told=told, body=body)

    @property
    def links(self) -> list[str]:
        """Where it leads: links, pictures and bare addresses."""
        prose = re.sub(r"`[^`\n]*`", "code", _FENCE.sub("", self.text))
        return re.findall(r"\]\(<?([^)\s>]+)>?\)", prose) + re.findall(r"<(https?://[^>\s]+)>", prose)

    @property
    def anchors(self) -> set[str]:
        """The names of its headings, as GitHub and MyST make them."""
        headings = re.findall(r"^#{1,3} (.+)$", _FENCE.sub("", self.text), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}


def pages() -> list[Page]:
    """Return the README and everything that the documentation is made of."""
    found = (file for file in (ROOT / "docs").rglob("*.md") if "_build" not in file.parts)
    return [Page(file) for file in (ROOT / "README.md", *sorted(found))]


def _typed(lines: list[str]) -> Iterator[str]:
    """Yield what somebody types: what follows a prompt, and what goes on below because a quote is open."""
    goes_on = False
    typed = ""
    for line in lines:
        if line.startswith("$ "):
            typed = line
        elif goes_on:
            typed += f"\n{line}"
        else:
            continue
        goes_on = _is_open(typed)
        yield line


def _whole(lines: list[str]) -> Iterator[str]:
    """Put lines together to commands: a quote may be open at the end of one, or a backslash be there."""
    command = ""
    for line in lines:
        command += f"{line}\n"
        if not _is_open(command):
            if _words(command):
                yield command.removesuffix("\n")
            command = ""
    assert not command, f"a command does not end: {command}"


def _is_open(command: str) -> bool:
    try:
        _words(command)
    except ValueError:
        return True
    return command.rstrip("\n").endswith("\\")


def _words(command: str) -> list[str]:
    reader = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars="|&;")
    reader.whitespace_split = True
    return list(reader)


def _split(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in [*words, ";"]:
        if word not in _JOINTS:
            part.append(word)
        elif part:
            yield part
            part = []
