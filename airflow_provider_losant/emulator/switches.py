# SPDX-License-Identifier: Apache-2.0
"""Switches for everything that Losant does not document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass(kw_only=True)
class Switches:
    """How the emulator behaves where Losant does not document it; can be changed while it runs."""

    listing_lag: float = 0.0
    """Seconds before a new execution appears in the log."""
    cancel_lag: float = 0.0
    """Seconds before a new execution can be cancelled; until then, cancelling it returns 404."""
    clock_skew: float = 0.0
    """Seconds by which Losant's clock is ahead of this machine's."""
    over_parallel: Literal["queue", "refuse"] = "queue"
    """What happens to executions above ``parallel``: they wait (``queue``) or are refused (``refuse``)."""
    parallel: int = 5
    """How many notebooks run in parallel; scripted executions never wait and count for ``refuse`` only."""
    notebook_minutes: int | None = None
    """Run minutes after which executions are refused; ``None`` means no quota."""
    minutes_per_run: float = 5.0
    """Maximum run minutes of an execution, for notebooks created through the API."""
    refusal_status: int = 400
    """HTTP status if an execution is refused for quota or parallelism."""
    refusal_type: str = "ExecutionLimitExceeded"
    """Error type if an execution is refused for quota or parallelism."""
    rate_limit_type: str = "TooManyRequests"
    """Error type of a 429 response."""
    cancel_final: Literal["not_found", "bad_request", "ok"] = "not_found"
    """Response when cancelling an ended execution: ``not_found`` (404), ``bad_request`` (400) or ``ok``."""
    cancel_queued: Literal["ok", "not_found"] = "ok"
    """Response when cancelling a queued execution: ``ok`` or ``not_found`` (404)."""
    cancel_delay: float = 0.0
    """Seconds that an execution stays ``canceling`` before it is ``canceled``."""
    since_field: Literal["queued", "started", "completed"] = "queued"
    """Which timestamp ``since`` filters by: ``queued``, ``started`` or ``completed``."""
    max_limit: int | None = None
    """Maximum log entries in a response, whatever ``limit`` is; ``None`` means no maximum."""
    refuse_limit_above: int | None = None
    """Value of ``limit`` above which a request for the log is refused with 400; ``None`` means never."""
    max_per_page: int | None = None
    """Maximum notebooks in a page, whatever ``perPage`` is; ``None`` means no maximum."""
    file_url_ttl: float = 900.0
    """Seconds until the URL of a file expires; 15 minutes is Losant's default for private files."""
    resign_urls: bool = True
    """Whether every response has newly signed file URLs; otherwise they expire for good."""
    no_token_status: int = 403
    """HTTP status for a request without a token."""
    execute_without_file: Literal["error_in_run", "bad_request"] = "error_in_run"
    """How a notebook without a file fails: ``error_in_run``, or ``bad_request`` (400) at once."""
    relative_to_fallback: bool = True
    """Whether an invalid ``relativeTo`` silently means now; otherwise it is a 400."""
    unconfigured_results: bool = False
    """Whether ``result.*`` files are listed without an output for them."""
    callbacks: bool = True
    """Whether ``callbackUrl`` gets ``success``, ``notebook`` and ``execution``, as a workflow would."""
    export_interval: float = 900.0
    """Minimum seconds between two input data exports of a notebook."""

    def change(self, values: Mapping[str, Any]) -> None:
        """
        Change several switches; if one name or value is invalid, change none.

        :raises ValueError: if a name or value is invalid; the message has the name.
        """
        hints = get_type_hints(type(self))
        for name, value in values.items():
            if name not in hints or not _fits(value, hints[name]):
                raise ValueError(f"unknown switch or invalid value: {name}")
        for name, value in values.items():
            setattr(self, name, value)

    def as_json(self) -> dict[str, Any]:
        """Return all switches with their values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_args(hint):
        return any(_fits(value, part) for part in get_args(hint))
    if hint is bool or isinstance(value, bool):
        return hint is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if hint is float else hint)
