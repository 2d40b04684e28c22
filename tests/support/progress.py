# SPDX-License-Identifier: Apache-2.0
"""Print the progress of each step in one line with its duration. Standard library only."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

NOTE_INTERVAL = 10.0


class Step:
    """
    Show one step of a command while a ``with`` block lasts.

    On a terminal the line is updated, and cut to the terminal's width. Elsewhere there is a line at the
    start, one at the end, and from time to time one with the latest note.

    :param title: What the step does, in a few words.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._note = ""
        self._live = sys.stdout.isatty()
        self._started = self._printed_at = time.monotonic()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._started = self._printed_at = time.monotonic()
        if self._live:
            self._clock.start()
        else:
            print(f"  ..   {self.title}", flush=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._live:
            self._clock.join()
        stopped = kind is not None and issubclass(kind, SystemExit)
        self._write("ok" if kind is None else "--" if stopped else "FAIL", end="\n")

    def note(self, note: str) -> None:
        """Show where the step is now."""
        if note == self._note:
            return
        self._note = note
        if not self._live and time.monotonic() - self._printed_at >= NOTE_INTERVAL:
            self._printed_at = time.monotonic()
            self._write("..", end="\n")

    def _tick(self) -> None:
        while not self._ended.wait(0.2):
            self._write("..", end="")

    def _write(self, mark: str, *, end: str) -> None:
        seconds = time.monotonic() - self._started
        line = f"  {mark:4} {self.title} ({seconds:.0f} s)  {self._note}".rstrip()
        if self._live:
            # A line that the terminal wraps cannot be updated.
            line = f"\r\033[K{line[: shutil.get_terminal_size().columns - 1]}"
        print(line, end=end, flush=True)
