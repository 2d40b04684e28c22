# SPDX-License-Identifier: Apache-2.0
"""Select and download the output files of an execution; get a new signed URL when one has expired."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from glob import has_magic
from io import BytesIO
from itertools import count
from typing import TYPE_CHECKING

from airflow_provider_losant.api.errors import (
    ExecutionNotFound,
    FileAccessDenied,
    LosantError,
    OutputError,
)
from airflow_provider_losant.api.fields import file_patterns, is_file_name, listed, positive_integer, text
from airflow_provider_losant.api.flows.log_reader import SINCE_MARGIN, WHOLE_LOG, LogLimit, read_log
from airflow_provider_losant.api.flows.retry import backoff
from airflow_provider_losant.api.flows.steps import Fetch, LogLine, OpenSink, Sleep, Tail
from airflow_provider_losant.api.timestamps import DAY

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import FileFlow, Flow
    from airflow_provider_losant.api.model import Execution, ExecutionRef, File

ALL = "*"
RESULT_FILES = frozenset({"result.html", "result.pdf", "result.ipynb", "result.log", "result.error.log"})
"""The outputs that Losant makes of every execution; the notebook writes all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSelection:
    """
    Which outputs of an execution to download.

    :param names: Names, or globs such as ``*.csv``; each must match an output, except ``*``: all outputs.
    :param max_bytes: Maximum size of all of them together; None for no limit.
    :param limited_by: What sets that maximum, for the error.
    :param is_literal: The names are no globs, whatever characters they contain.
    """

    names: Sequence[str] = (ALL,)
    max_bytes: int | None = None
    limited_by: str = "max_bytes"
    is_literal: bool = False

    @classmethod
    def parse(cls, names: object, max_bytes: object) -> OutputSelection:
        """
        Validate a DAG's arguments.

        :raises InvalidArgument: ``names`` is empty or has an empty name, or ``max_bytes`` is not positive.
        """
        return cls(names=file_patterns(names, field="outputs"), max_bytes=_parse_max_bytes(max_bytes))

    @classmethod
    def parse_name(cls, name: object, max_bytes: object = None) -> OutputSelection:
        """
        Validate the name of one output, which is taken literally.

        :raises InvalidArgument: ``name`` is empty, or ``max_bytes`` is not positive.
        """
        names = (text(name, field="name"),)
        return cls(names=names, max_bytes=_parse_max_bytes(max_bytes), is_literal=True)

    def select(self, execution: Execution) -> list[File]:
        """
        Return the selected outputs of an execution.

        :raises OutputError: the execution has not ended, a name matches no output, or they are too large.
        """
        if not execution.status.is_final:
            raise OutputError(f"the {execution.ref} has not ended ({execution.status})")
        for name in self.names:
            may_be_missing = name == ALL and not self.is_literal
            if not may_be_missing and not any(self._is_named(it, name) for it in execution.outputs):
                raise OutputError(self._missing(name, execution))
        selected = [
            it
            for it in execution.outputs.values()
            if any(self._is_named(it.name, name) for name in self.names)
        ]
        for file in selected:
            if not is_file_name(file.name):
                raise OutputError(f"{file.name!r} is not a valid file name")
            if not file.url:
                raise OutputError(f"Losant returned no URL for {file.name}")
        size = sum(file.size or 0 for file in selected)
        if self.max_bytes is not None and size > self.max_bytes:
            raise OutputError(
                f"{listed(it.name for it in selected)}: {size:,} bytes, more than {self.limited_by} "
                f"({self.max_bytes:,}), in the {execution.ref}"
            )
        return selected

    def _is_named(self, file_name: str, name: str) -> bool:
        return file_name == name if self.is_literal else fnmatchcase(file_name, name)

    def _missing(self, name: str, execution: Execution) -> str:
        existing = listed(execution.outputs) or "none"
        message = f"the {execution.ref} has no output {name!r}; its outputs: {existing}"
        if "/" in name or (has_magic(name) and not self.is_literal):
            return message
        return f"{message}. Losant keeps it if the notebook's outputs contain {output_configuration(name)}"


def output_configuration(name: str) -> str:
    """
    Return the JSON object that, in a notebook's ``outputs`` in Losant, lets Losant keep an output file.

    :param name: The file's name, without a folder.
    """
    output_type = "executionResult" if name in RESULT_FILES else "temporaryUrl"
    return json.dumps({"outputType": output_type, "fileName": name})


def find_execution(ref: ExecutionRef, retries: int) -> Flow[Execution]:
    """
    Search the notebook's execution log for one execution; Losant has no endpoint for a single execution.

    :raises ExecutionNotFound: the log does not list it.
    :raises LogIncomplete: the log does not list it, but could not be read back to its submission.
    """
    limit = LogLimit()
    created_at = ref.created_at
    # Without since the search goes back further, in case the clock that made the id was ahead.
    for back_to, since in ((created_at - SINCE_MARGIN, None), (created_at - DAY, WHOLE_LOG)):
        reading = yield from read_log(
            ref.application_id,
            ref.notebook_id,
            back_to=back_to,
            since=since,
            limit=limit,
            is_enough=lambda log: ref.execution_id in log,
            retries=retries,
        )
        if execution := reading.log.find(ref.execution_id):
            return execution
    reading.check_complete()
    raise ExecutionNotFound(
        f"The execution log of notebook {ref.notebook_id} does not list execution {ref.execution_id}"
    )


def download(
    ref: ExecutionRef,
    selection: OutputSelection,
    sink_for: Callable[[File], OpenSink | None],
    retries: int,
) -> FileFlow[Mapping[str, int | None]]:
    """
    Download the selected outputs of an execution, one after the other.

    :param sink_for: Returns where to write a file; None skips it. Called for all files before the first
        download.
    :param retries: How often a failed request is retried.
    :return: The bytes of each selected file, by name; None if it was skipped.
    :raises OutputError: an output does not exist or is too large.
    """
    execution = yield from find_execution(ref, retries)
    return (yield from _download(execution, selection, sink_for, retries))


def _parse_max_bytes(max_bytes: object) -> int | None:
    return None if max_bytes is None else positive_integer(max_bytes, field="max_bytes")


def read_output(ref: ExecutionRef, selection: OutputSelection, retries: int) -> FileFlow[bytes]:
    """
    Return the content of one output of an execution.

    :param selection: One literal name, with a maximum size, because the content is kept in memory.
    :param retries: How often a failed request is retried.
    :raises OutputError: the execution has not ended, or the output does not exist or is too large.
    """
    execution = yield from find_execution(ref, retries)
    return (yield from read_output_of(execution, selection, retries))


def read_output_of(execution: Execution, selection: OutputSelection, retries: int) -> FileFlow[bytes]:
    """Return the content of one output, as :func:`read_output`, without reading the log before."""
    content = b""

    @contextmanager
    def in_memory() -> Iterator[BytesIO]:
        nonlocal content
        buffer = BytesIO()
        yield buffer
        content = buffer.getvalue()

    yield from _download(execution, selection, lambda _: in_memory, retries)
    return content


def _download(
    execution: Execution,
    selection: OutputSelection,
    sink_for: Callable[[File], OpenSink | None],
    retries: int,
) -> FileFlow[Mapping[str, int | None]]:
    selected = selection.select(execution)
    sinks = {file.name: sink_for(file) for file in selected}
    saved: dict[str, int | None] = dict.fromkeys(sinks)
    remaining = selection.max_bytes
    for file in selected:
        open_sink = sinks[file.name]
        if open_sink is not None:
            saved[file.name] = size = yield from _fetch(execution.ref, file, open_sink, remaining, retries)
            remaining = None if remaining is None else remaining - size
    return saved


def read_tail(ref: ExecutionRef, name: str, max_bytes: int, retries: int) -> Flow[str]:
    """
    Return the end of a text output of an execution, from its first whole line on.

    :param max_bytes: How much of the file is requested.
    :param retries: How often a failed request is retried.
    :raises OutputError: the execution has no such output.
    """
    for attempt in count(1):
        execution = yield from find_execution(ref, retries)
        file = execution.outputs.get(name)
        if file is None or not file.url:
            raise OutputError(
                f"the {ref} has no output {name!r}. Losant keeps it if the notebook's outputs contain "
                f"{output_configuration(name)}"
            )
        try:
            text: str = yield Tail(file.url, limit=max_bytes)
        except LosantError as error:
            if not error.is_transient or attempt > retries:
                raise
            yield LogLine(f"{name}: {error}; retrying ({attempt} of {retries})")
            yield Sleep(backoff(attempt))
        else:
            is_cut = len(text.encode()) >= max_bytes
            return (text.partition("\n")[2] or text) if is_cut else text
    raise AssertionError  # the loop above only ends by return or raise


def _fetch(
    ref: ExecutionRef, file: File, open_sink: OpenSink, limit: int | None, retries: int
) -> FileFlow[int]:
    is_new_url = False
    for attempt in count(1):
        try:
            size: int = yield Fetch(url=file.url or "", open_sink=open_sink, size=file.size, limit=limit)
        except FileAccessDenied as error:
            if is_new_url:
                raise
            yield LogLine(f"{file.name}: {error}; the signed URL has expired, requesting a new one")
            file = yield from _with_new_url(ref, file)
            is_new_url = True
        except OutputError as error:
            raise OutputError(f"{file.name} of the {ref}: {error}") from None
        except LosantError as error:
            if not error.is_transient or attempt > retries:
                raise
            yield LogLine(f"{file.name}: {error}; retrying ({attempt} of {retries})", logging.WARNING)
            yield Sleep(backoff(attempt))
            is_new_url = False
        else:
            yield LogLine(f"{file.name}: {size:,} bytes")
            return size
    raise AssertionError  # the loop above only ends by return or raise


def _with_new_url(ref: ExecutionRef, file: File) -> Flow[File]:
    execution = yield from find_execution(ref, retries=2)
    try:
        return replace(file, url=execution.outputs[file.name].url)
    except KeyError:
        raise OutputError(f"the {ref} no longer has output {file.name!r}") from None
