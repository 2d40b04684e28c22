# SPDX-License-Identifier: Apache-2.0
"""How a wait for an execution ended, as a value that crosses from the triggerer to the worker."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Ending = Literal["ended", "deadline", "outage", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    How a wait ended. It is plain JSON (:meth:`to_event`), so that a trigger can pass it to its task.

    :param ending: ``ended`` (the execution has a final status), ``deadline`` (the time to wait was over),
        ``outage`` (too long without a readable response), ``refused`` (Losant denies access to the log).
    :param result: What is known of the execution, as DAGs get it; holds no signed URL.
    :param is_success: The execution completed.
    :param errors: Losant's execution errors.
    :param error_log: The end of ``result.error.log``, where there is one.
    :param problem: Why the wait was given up.
    :param is_cancelled: The provider asked Losant to cancel the execution, and Losant agreed.
    """

    ending: Ending
    result: Mapping[str, Any]
    is_success: bool = False
    errors: Sequence[Mapping[str, str]] = ()
    error_log: str | None = None
    problem: str | None = None
    is_cancelled: bool = False

    @property
    def may_be_active(self) -> bool:
        """Whether the execution may still use run minutes."""
        return self.ending != "ended" and not self.is_cancelled

    def to_event(self) -> dict[str, Any]:
        """Return the JSON dict that a trigger fires."""
        # Not asdict(): it copies every nested value, which is slow when thousands of waits end together.
        event = {field.name: getattr(self, field.name) for field in fields(self)}
        return event | {"result": dict(self.result), "errors": [dict(error) for error in self.errors]}

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Outcome:
        """
        Read what a trigger fired.

        :raises ValueError: it is not an event of this provider's triggers.
        """
        try:
            return cls(**event)
        except TypeError as error:
            raise ValueError(f"not the event of a notebook wait: {error}") from None


def format_durations(durations: Mapping[str, float | None], max_run_minutes: float | None) -> str:
    """
    Format in brackets how long an execution spent in each phase, and the run minutes it used.

    Losant counts run minutes from the start of the notebook to its end only.

    :param durations: Seconds in each phase.
    :param max_run_minutes: Run minutes that Losant allows the execution.
    """
    phases = ", ".join(
        f"{name} {took:g} s" for name, took in durations.items() if took is not None and name != "total"
    )
    ran = durations.get("notebook")
    if ran is None:
        return f" ({phases})" if phases else ""
    limit = "" if max_run_minutes is None else f" of {max_run_minutes:g}"
    return f" ({phases}; {ran / 60:.1f}{limit} run minutes)"
