# SPDX-License-Identifier: Apache-2.0
"""The life of an execution: instants on a line, and what of them can be seen at a given moment."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from airflow_provider_losant.emulator.state.identity import is_safe_name
from airflow_provider_losant.emulator.state.timestamps import format_timestamp

FINAL: Final = frozenset({"completed", "errored", "timeout", "canceled"})
HANG: Final = "hang"
STOPPED: Final = ("EmulatorStopped", "The emulator was stopped before this execution had ended.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """
    Declare how executions of a notebook go, instead of running it.

    :param queue: seconds until the execution starts.
    :param inputs: seconds that gathering the inputs takes.
    :param notebook: seconds that the notebook runs.
    :param outputs: seconds that storing the outputs takes.
    :param ending: the last status: ``completed``, ``errored``, ``timeout``, any word Losant may invent,
        or ``hang`` for an execution that stays ``inProgress``.
    :param files: result files by name.
    :param errors: name and message of each execution error.
    """

    queue: float = 0.0
    inputs: float = 0.0
    notebook: float = 0.05
    outputs: float = 0.0
    ending: str = "completed"
    files: Mapping[str, bytes] = field(default_factory=dict)
    errors: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in self.files:
            if not is_safe_name(name):
                raise ValueError(f"this is no file name: {name!r}")

    @classmethod
    def from_json(cls, wanted: Mapping[str, Any]) -> Self:
        """
        Read a script from JSON, where a file is its text, or ``{"base64": ...}``.

        :raises ValueError: for an unknown key, or a file name that Losant would not accept.
        """
        unknown = set(wanted) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"a script has no {', '.join(sorted(unknown))}")
        files = {name: _content(told) for name, told in wanted.get("files", {}).items()}
        errors = tuple((name, message) for name, message in wanted.get("errors", ()))
        return cls(**{**wanted, "files": files, "errors": errors})

    def as_json(self) -> dict[str, Any]:
        """Write the script as :meth:`from_json` reads it."""
        plain = {name: getattr(self, name) for name in ("queue", "inputs", "notebook", "outputs", "ending")}
        files = {name: {"base64": b64encode(content).decode()} for name, content in self.files.items()}
        return {**plain, "files": files, "errors": [list(error) for error in self.errors]}


def _content(told: str | Mapping[str, str]) -> bytes:
    return told.encode() if isinstance(told, str) else b64decode(told["base64"])


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that an execution took in or gave out."""

    size: int
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """
    One execution, with every instant that is known of it, also those still to come.

    A scripted execution knows its whole line from the beginning; a real one learns it as it goes. Both are
    looked at in the same way: what lies after the present moment is not there yet.
    """

    id: str
    notebook_id: str
    application_id: str
    queued_at: float
    relative_to: float
    max_minutes: float
    image_version: str
    source_id: str
    template_context: str | None = None
    email: str | None = None
    callback_url: str | None = None
    started_at: float | None = None
    inputs_at: float | None = None
    notebook_at: float | None = None
    outputs_at: float | None = None
    canceling_at: float | None = None
    ended_at: float | None = None
    ending: str | None = None
    scripted: bool = False
    inputs: Mapping[str, File] = field(default_factory=dict)
    outputs: Mapping[str, File] = field(default_factory=dict)
    errors: tuple[tuple[str, str], ...] = ()

    def status(self, now: float) -> str:
        """Say in which status the execution is now."""
        if self.ended_at is not None and self.ended_at <= now:
            return str(self.ending)
        if self.canceling_at is not None and self.canceling_at <= now:
            return "canceling"
        return "inProgress" if self.started_at is not None and self.started_at <= now else "queued"

    def is_over(self, now: float) -> bool:
        """Say whether anything can still happen to it."""
        return self.ended_at is not None and self.ended_at <= now

    def apply(self, script: Script) -> Execution:
        """Lay out the whole line in advance, as the script declares it."""
        started = self.queued_at + script.queue
        gathered = started + script.inputs
        if script.ending == HANG:
            return replace(self, scripted=True, started_at=started, inputs_at=gathered)
        ran = gathered + script.notebook
        line = replace(self, scripted=True, started_at=started, inputs_at=gathered, ending=script.ending)
        if script.ending == "timeout":
            # The run was cut off: the notebook never completed and nothing was stored.
            return replace(line, ended_at=ran, errors=script.errors)
        stored = ran + script.outputs
        return replace(line, notebook_at=ran, outputs_at=stored, ended_at=stored, errors=script.errors)

    def cancel(self, now: float, delay: float) -> Execution:
        """Mark it for cancellation: what has not happened by now never will."""
        if self.canceling_at is not None:
            return self

        def past(at: float | None) -> float | None:
            return at if at is not None and at <= now else None

        # The kernel of a real run has to be gone before it counts as canceled, so the worker ends it.
        ended = now + delay if self.scripted else None
        return replace(
            self,
            canceling_at=now,
            ended_at=ended,
            ending="canceled" if self.scripted else None,
            errors=(),
            started_at=past(self.started_at),
            inputs_at=past(self.inputs_at),
            notebook_at=past(self.notebook_at),
            outputs_at=past(self.outputs_at),
        )

    def after_restart(self, now: float) -> Execution:
        """Say what has become of it when its kernel is gone; a scripted one goes on by the clock."""
        if self.scripted or self.ended_at is not None:
            return self
        return replace(self, ending="errored", ended_at=now, errors=(STOPPED,))

    def minutes(self, now: float) -> int:
        """Count the run minutes used so far; a begun minute counts whole."""
        began = self.inputs_at
        stops = [at for at in (self.notebook_at, self.ended_at, now) if at is not None]
        if began is None or began >= now:
            return 0
        return max(1, -int(-(min(*stops, now) - began) // 60))

    def to_api(self, now: float, address: Callable[[str, str], str]) -> dict[str, Any]:
        """
        Write the log entry that can be seen now; what is not known yet is absent.

        :param address: makes the address of a file from ``inputs`` or ``outputs`` and its name.
        """

        def seen(at: float | None) -> bool:
            return at is not None and at <= now

        entry: dict[str, Any] = {
            "id": self.id,
            "notebookExecutionId": self.id,
            "notebookId": self.notebook_id,
            "applicationId": self.application_id,
            "imageVersion": self.image_version,
            "status": self.status(now),
            "executionRelativeTo": format_timestamp(self.relative_to),
            "maxAllowedRunMinutes": self.max_minutes,
            "sourceType": "apiToken",
            "sourceId": self.source_id,
        }
        marks = (
            ("runQueuedAt", self.queued_at),
            ("runStartedAt", self.started_at),
            ("inputsCompletedAt", self.inputs_at),
            ("notebookCompletedAt", self.notebook_at),
            ("outputsCompletedAt", self.outputs_at),
        )
        entry |= {name: format_timestamp(at) for name, at in marks if at is not None and at <= now}
        if self.template_context is not None:
            entry["templateContext"] = self.template_context
        for key, files, at in (
            ("inputs", self.inputs, self.inputs_at),
            ("outputs", self.outputs, self.outputs_at),
        ):
            entry[f"{key[:-1]}Info"] = {
                name: {"size": file.size, "contentType": file.content_type, "url": address(key, name)}
                for name, file in (files.items() if seen(at) else ())
            }
        shown = self.errors if self.is_over(now) else ()
        return entry | {"executionErrors": [{"name": name, "message": message} for name, message in shown]}
