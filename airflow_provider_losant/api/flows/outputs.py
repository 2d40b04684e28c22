# SPDX-License-Identifier: Apache-2.0
"""Getting at the files of a run: which of them, how large, and what follows when an address expires."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import count
from typing import TYPE_CHECKING

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import (
    FileAccessDenied,
    InvalidArgument,
    LosantError,
    NotFound,
    OutputError,
)
from airflow_provider_losant.api.flows.retry import backoff, call_with_retry
from airflow_provider_losant.api.flows.steps import Fetch, LogLine, OpenSink, Sleep
from airflow_provider_losant.api.flows.wait import SINCE_MARGIN

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import FileFlow, Flow
    from airflow_provider_losant.api.model import Execution, ExecutionLog, ExecutionRef, File

ALL = "*"
# A name is Losant's, and becomes part of a path of ours: no part of it may lead anywhere else.
_NAME = re.compile(r"(?!\.{1,2}(/|$))[^/\\:\x00-\x1f]+(/(?!\.{1,2}(/|$))[^/\\:\x00-\x1f]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSelection:
    """
    Which outputs of a run are wanted.

    :param names: Names, or globs such as ``*.csv``; each has to fit some output. ``*`` is all there are.
    :param max_bytes: What all of them together may have; None is no limit.
    """

    names: Sequence[str] = (ALL,)
    max_bytes: int | None = None

    @classmethod
    def parse(cls, names: str | Sequence[str], max_bytes: int | None) -> OutputSelection:
        """
        Check what a DAG's author chose.

        :raises InvalidArgument: nothing is chosen, or the limit is none.
        """
        chosen = (names,) if isinstance(names, str) else tuple(names)
        if not all(chosen) or not chosen:
            raise InvalidArgument("outputs", f"{names!r} names no file")
        if max_bytes is not None and max_bytes <= 0:
            raise InvalidArgument("max_bytes", f"{max_bytes!r} is not a positive number")
        return cls(names=chosen, max_bytes=max_bytes)

    def select(self, execution: Execution) -> list[File]:
        """
        Choose among an execution's outputs.

        :raises OutputError: it has not ended, or has no such output, or they are too large.
        """
        if not execution.status.is_final:
            raise OutputError(f"the {execution.ref} has not ended ({execution.status})")
        for name in self.names:
            if name != ALL and not any(fnmatchcase(it, name) for it in execution.outputs):
                there = ", ".join(execution.outputs) or "none"
                raise OutputError(f"the {execution.ref} has no output {name!r}; it has: {there}")
        chosen = [
            it for it in execution.outputs.values() if any(fnmatchcase(it.name, name) for name in self.names)
        ]
        for file in chosen:
            if not _NAME.fullmatch(file.name):
                raise OutputError(f"{file.name!r} is no name for a file")
            if not file.url:
                raise OutputError(f"Losant gives no address for {file.name}")
        size = sum(file.size or 0 for file in chosen)
        if self.max_bytes is not None and size > self.max_bytes:
            raise OutputError(f"{', '.join(it.name for it in chosen)}: {size:,} bytes, {self._limit}")
        return chosen

    @property
    def _limit(self) -> str:
        return f"more than max_bytes ({self.max_bytes:,})"


def find_execution(ref: ExecutionRef, retries: int) -> Flow[Execution]:
    """
    Look for one execution in the notebook's log, since Losant has no other way to it.

    :raises NotFound: the log does not show it.
    """
    for since in (ref.created_at - SINCE_MARGIN, 0.0):
        call = endpoints.execution_logs(
            ref.application_id, ref.notebook_id, limit=endpoints.MAX_LOG_LIMIT, since=since
        )
        log: ExecutionLog = yield from call_with_retry(call, retries)
        if execution := log.find(ref.execution_id):
            return execution
    raise NotFound(404, "NotFound", f"the log of notebook {ref.notebook_id} does not show {ref.execution_id}")


def download(
    ref: ExecutionRef, selection: OutputSelection, place: Callable[[File], OpenSink | None], retries: int
) -> FileFlow[Mapping[str, int | None]]:
    """
    Fetch the chosen outputs of a run, one after the other.

    :param place: Says where a file goes; None leaves it alone. All are asked about before any is fetched.
    :return: The bytes of each chosen file, by name; None where it was left alone.
    :raises OutputError: something about the outputs is not as wanted; nothing was fetched.
    """
    execution = yield from find_execution(ref, retries)
    chosen = selection.select(execution)
    places = {file.name: place(file) for file in chosen}
    saved: dict[str, int | None] = dict.fromkeys(places)
    left = selection.max_bytes
    for file in chosen:
        open_sink = places[file.name]
        if open_sink is not None:
            saved[file.name] = got = yield from _fetch(ref, file, open_sink, left, retries)
            left = None if left is None else left - got
    return saved


def _fetch(
    ref: ExecutionRef, file: File, open_sink: OpenSink, limit: int | None, retries: int
) -> FileFlow[int]:
    is_fresh = False
    for attempt in count(1):
        try:
            got: int = yield Fetch(url=file.url or "", open_sink=open_sink, size=file.size, limit=limit)
        except FileAccessDenied as error:
            if is_fresh:
                raise
            yield LogLine(f"{file.name}: {error}; its address has expired, so the log is asked for another")
            file = yield from _listed_again(ref, file)
            is_fresh = True
        except LosantError as error:
            if not error.is_transient or attempt > retries:
                raise
            yield LogLine(f"{file.name}: {error}; trying again ({attempt} of {retries})", logging.WARNING)
            yield Sleep(backoff(attempt))
            is_fresh = False
        else:
            yield LogLine(f"{file.name}: {got:,} bytes")
            return got
    raise AssertionError  # the loop above only ends by return or raise


def _listed_again(ref: ExecutionRef, file: File) -> Flow[File]:
    execution = yield from find_execution(ref, retries=2)
    try:
        return replace(file, url=execution.outputs[file.name].url)
    except KeyError:
        raise OutputError(f"the {ref} has no output {file.name!r} any more") from None
