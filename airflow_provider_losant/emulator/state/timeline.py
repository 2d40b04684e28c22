# SPDX-License-Identifier: Apache-2.0
"""Executions as timestamps on a line, of which a request sees only those in the past."""

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
    How executions of a notebook go, instead of running the notebook in a kernel.

    :param queue: seconds until the execution starts.
    :param inputs: seconds that preparing the inputs takes.
    :param notebook: seconds that the notebook runs.
    :param outputs: seconds that storing the outputs takes.
    :param ending: the final status: ``completed``, ``errored``, ``timeout``, any other status, or ``hang``
        for an execution that stays ``inProgress``.
    :param files: output files by name.
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
                raise ValueError(f"invalid file name: {name!r}")

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """
        Create a script from a JSON object; the content of a file is text, or ``{"base64": ...}``.

        :raises ValueError: if a key is unknown, or a file name is one that Losant would not accept.
        """
        unknown = set(body) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown script parameters: {', '.join(sorted(unknown))}")
        files = {name: _decode(content) for name, content in body.get("files", {}).items()}
        errors = tuple((name, message) for name, message in body.get("errors", ()))
        return cls(**{**body, "files": files, "errors": errors})

    def as_json(self) -> dict[str, Any]:
        """Return the script as a JSON object for :meth:`from_json`."""
        plain = {name: getattr(self, name) for name in ("queue", "inputs", "notebook", "outputs", "ending")}
        files = {name: {"base64": b64encode(content).decode()} for name, content in self.files.items()}
        return {**plain, "files": files, "errors": [list(error) for error in self.errors]}


def _decode(content: str | Mapping[str, str]) -> bytes:
    return content.encode() if isinstance(content, str) else b64decode(content["base64"])


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An input or output file of an execution; ``size`` is in bytes."""

    size: int
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """
    An execution with all its timestamps, in epoch seconds, some of which may be in the future.

    A scripted execution has all timestamps from the beginning; a real one gets each when it happens. Requests
    see both in the same way, without timestamps in the future.
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
        """Return the status at a time."""
        if self.ended_at is not None and self.ended_at <= now:
            return str(self.ending)
        if self.canceling_at is not None and self.canceling_at <= now:
            return "canceling"
        return "inProgress" if self.started_at is not None and self.started_at <= now else "queued"

    def is_over(self, now: float) -> bool:
        """Return whether the execution has ended at a time."""
        return self.ended_at is not None and self.ended_at <= now

    def apply(self, script: Script) -> Execution:
        """Return the execution with all timestamps as the script says."""
        started = self.queued_at + script.queue
        inputs = started + script.inputs
        if script.ending == HANG:
            return replace(self, scripted=True, started_at=started, inputs_at=inputs)
        notebook = inputs + script.notebook
        scripted = replace(self, scripted=True, started_at=started, inputs_at=inputs, ending=script.ending)
        if script.ending == "timeout":
            # The run was interrupted: the notebook has not completed and no outputs were stored.
            return replace(scripted, ended_at=notebook, errors=script.errors)
        outputs = notebook + script.outputs
        return replace(
            scripted, notebook_at=notebook, outputs_at=outputs, ended_at=outputs, errors=script.errors
        )

    def cancel(self, now: float, delay: float) -> Execution:
        """
        Return the cancelled execution, without timestamps in the future.

        :param delay: seconds that a scripted execution stays ``canceling``.
        """
        if self.canceling_at is not None:
            return self

        def past(at: float | None) -> float | None:
            return at if at is not None and at <= now else None

        # A real execution is canceled when its kernel has been killed, so the worker sets its end.
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
        """Return the execution after a restart: a real one has lost its kernel, a scripted one continues."""
        if self.scripted or self.ended_at is not None:
            return self
        return replace(self, ending="errored", ended_at=now, errors=(STOPPED,))

    def minutes(self, now: float) -> int:
        """Return the run minutes used so far, rounded up."""
        start = self.inputs_at
        ends = [at for at in (self.notebook_at, self.ended_at, now) if at is not None]
        if start is None or start >= now:
            return 0
        return max(1, -int(-(min(*ends, now) - start) // 60))

    def to_api(self, now: float, url: Callable[[str, str], str]) -> dict[str, Any]:
        """
        Return the log entry at a time.

        :param url: returns the URL of a file from ``inputs`` or ``outputs`` and its name.
        """

        def is_past(at: float | None) -> bool:
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
        timestamps = (
            ("runQueuedAt", self.queued_at),
            ("runStartedAt", self.started_at),
            ("inputsCompletedAt", self.inputs_at),
            ("notebookCompletedAt", self.notebook_at),
            ("outputsCompletedAt", self.outputs_at),
        )
        entry |= {name: format_timestamp(at) for name, at in timestamps if at is not None and at <= now}
        if self.template_context is not None:
            entry["templateContext"] = self.template_context
        for key, files, at in (
            ("inputs", self.inputs, self.inputs_at),
            ("outputs", self.outputs, self.outputs_at),
        ):
            entry[f"{key[:-1]}Info"] = {
                name: {"size": file.size, "contentType": file.content_type, "url": url(key, name)}
                for name, file in (files.items() if is_past(at) else ())
            }
        errors = self.errors if self.is_over(now) else ()
        return entry | {"executionErrors": [{"name": name, "message": message} for name, message in errors]}
