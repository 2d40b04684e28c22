# SPDX-License-Identifier: Apache-2.0
"""How a wait for an execution ended, as a value that crosses from the triggerer to the worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_losant.api.fields import MAX_EVENT, fit_files

if TYPE_CHECKING:
    from collections.abc import Sequence

Ending = Literal["ended", "deadline", "outage", "refused", "not_found"]
# What each part of an event may have, in bytes of JSON, if all together have too many.
_ERRORS_ROOM, _FILES_ROOM, _ERROR_LOG_ROOM, _PROBLEM_ROOM = 32_000, 16_000, 8_000, 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    How a wait ended. It is plain JSON (:meth:`to_event`), so that a trigger can pass it to its task.

    :param ending: ``ended`` (the execution has a final status), ``deadline`` (the time to wait was over),
        ``outage`` (too long without a readable response), ``refused`` (Losant denies access to the log),
        ``not_found`` (the complete log does not list the execution).
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
        return self.ending not in ("ended", "not_found") and not self.is_cancelled

    def to_event(self) -> dict[str, Any]:
        """Return the JSON dict that a trigger fires: at most 64 KB, for which texts may be shortened."""
        # Not asdict(): it copies every nested value, which is slow when thousands of waits end together.
        event = {field.name: getattr(self, field.name) for field in fields(self)}
        event |= {"result": dict(self.result), "errors": [dict(error) for error in self.errors]}
        return event if len(json.dumps(event)) <= MAX_EVENT else event | self._shortened()

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Outcome:
        """
        Read what a trigger fired, also a trigger of a version that fires more or less.

        :raises ValueError: it is not an event of this provider's triggers.
        """
        try:
            known = {it.name: event[it.name] for it in fields(cls) if it.name in event}
            outcome = cls(**known)
        except TypeError as error:
            raise ValueError(f"not the event of a notebook wait: {error}") from None
        if not isinstance(outcome.result, Mapping):
            raise ValueError("not the event of a notebook wait: it has no result")  # noqa: TRY004 - as above
        return outcome

    def _shortened(self) -> dict[str, Any]:
        result, log, problem = self.result, self.error_log, self.problem
        left_out = result.get("files_left_out", 0)
        files = fit_files(result.get("inputs", {}), result.get("outputs", {}), _FILES_ROOM, left_out)
        return {
            "result": {**result, **files},
            "errors": _fit(
                lambda most: [{key: it[:most] for key, it in error.items()} for error in self.errors],
                _ERRORS_ROOM,
            ),
            "error_log": log and _fit(lambda most: log[-most:], _ERROR_LOG_ROOM),
            "problem": problem and _fit(lambda most: problem[:most], _PROBLEM_ROOM),
        }


def _fit(shortened: Callable[[int], Any], room: int) -> Any:
    """Return a value whose texts are shortened as far as its JSON has to be."""
    most = room
    while len(json.dumps(value := shortened(most))) > room:
        most = most * 3 // 4
    return value


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
