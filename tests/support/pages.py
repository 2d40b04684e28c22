# SPDX-License-Identifier: Apache-2.0
"""Read pages of the documentation: their blocks of code, headings and links."""

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
    r"^ *(?P<fence>`{3,}|:{3,})(?P<kind>\{?[\w-]*\}?) ?(?P<argument>[^\n`]*)\n(?P<body>.*?)^ *(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_JOINTS = {"&&", "||", "|", ";", "&"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """
    A fenced block.

    :param kind: Its language, or in braces its directive.
    :param argument: The rest of its first line; of an include, the file.
    """

    page: Path
    line: int
    kind: str
    argument: str
    body: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def included(self) -> Path:
        """The file that an include shows."""
        return (self.page.parent / self.argument).resolve()

    @property
    def typed(self) -> list[str]:
        """The commands of a shell block as a user types them, without the output."""
        lines = self.body.splitlines()
        if self.kind == "console":
            lines = [line.removeprefix("$ ") for line in _typed(lines)]
        return list(_whole(lines))

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a shell block, each as a list of words."""
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
        kind, argument, body = it["kind"], it["argument"].strip(), textwrap.dedent(it["body"])
        if kind == "{code-block}":  # a plain block with options, such as a caption
            kind, body = argument, re.sub(r"\A(:[\w-]+:.*\n)+\n*", "", body)
        line = self.text.count("\n", 0, it.start()) + 1
        return Block(page=self.path, line=line, kind=kind, argument=argument, body=body)

    @property
    def links(self) -> list[str]:
        """The targets of its links and pictures, and bare addresses."""
        prose = re.sub(r"`[^`\n]*`", "code", _FENCE.sub("", self.text))
        return re.findall(r"\]\(<?([^)\s>]+)>?\)", prose) + re.findall(r"<(https?://[^>\s]+)>", prose)

    @property
    def anchors(self) -> set[str]:
        """The anchors of its headings, as GitHub and MyST generate them."""
        headings = re.findall(r"^#{1,3} (.+)$", _FENCE.sub("", self.text), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", it.lower()).replace(" ", "-") for it in headings}


def pages() -> list[Page]:
    """Return the README and all pages of the documentation."""
    found = (file for file in (ROOT / "docs").rglob("*.md") if "_build" not in file.parts)
    return [Page(file) for file in (ROOT / "README.md", *sorted(found))]


def _typed(lines: list[str]) -> Iterator[str]:
    """Yield the lines that a user types: those after a prompt, and those that continue an open quote."""
    is_continued = False
    typed = ""
    for line in lines:
        if line.startswith("$ "):
            typed = line
        elif is_continued:
            typed += f"\n{line}"
        else:
            continue
        is_continued = _is_open(typed)
        yield line


def _whole(lines: list[str]) -> Iterator[str]:
    """Join lines to commands: a line is continued after an open quote or a backslash."""
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
