# SPDX-License-Identifier: Apache-2.0
"""What nobody has documented about Losant is a switch here, not a constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


@dataclass(kw_only=True)
class Switches:
    """Choose among the behaviours that Losant may have; every one can be changed while it runs."""

    listing_lag: float = 0.0
    """Seconds for which a new execution does not appear in the log yet."""
    clock_skew: float = 0.0
    """Seconds by which Losant's clock is ahead of this machine's."""
    over_parallel: Literal["queue", "refuse"] = "queue"
    """What happens to an execution above ``parallel``: it waits its turn (``queue``) or not (``refuse``)."""
    parallel: int = 5
    """How many notebooks run at once; scripted executions keep their times and count for "refuse" only."""
    notebook_minutes: int | None = None
    """Run minutes after which further executions are refused; ``None`` means no quota."""
    minutes_per_run: float = 5.0
    """Run minutes of one execution, for notebooks that are made through the API."""
    refusal_status: int = 400
    """HTTP status of a refusal for quota or parallelism."""
    refusal_type: str = "ExecutionLimitExceeded"
    """Error type of a refusal for quota or parallelism."""
    rate_limit_type: str = "TooManyRequests"
    """Error type of a 429 answer."""
    cancel_final: Literal["not_found", "bad_request", "ok"] = "not_found"
    """The answer to cancelling what has ended: ``not_found`` (404), ``bad_request`` (400) or ``ok``."""
    cancel_queued: Literal["ok", "not_found"] = "ok"
    """The answer to cancelling what has not started yet: ``ok`` or ``not_found`` (404)."""
    cancel_delay: float = 0.0
    """Seconds an execution stays ``canceling`` before it is ``canceled``."""
    since_field: Literal["queued", "started", "completed"] = "queued"
    """What ``since`` means: ``queued``, ``started`` or ``completed``; who has not got there is left out."""
    max_limit: int | None = None
    """The most log entries in one answer, whatever ``limit`` asked for; ``None`` means all."""
    max_per_page: int | None = None
    """The most notebooks in one page, whatever ``perPage`` asked for; ``None`` means all."""
    file_url_ttl: float = 3600.0
    """Seconds until the address of a file expires."""
    resign_urls: bool = True
    """Whether every look at the log gives fresh file addresses; otherwise they expire once and for all."""
    no_token_status: int = 403
    """HTTP status for a request without any token."""
    execute_without_file: Literal["error_in_run", "bad_request"] = "error_in_run"
    """How a notebook without a file fails: by ``error_in_run`` or, at once, by ``bad_request`` (400)."""
    relative_to_fallback: bool = True
    """Whether an unreadable ``relativeTo`` silently means now; otherwise it is a 400."""
    unconfigured_results: bool = False
    """Whether ``result.*`` files are listed that no output asks for."""
    callbacks: bool = True
    """Whether ``callbackUrl`` gets ``success``, ``notebook`` and ``execution``, as a workflow would."""
    export_interval: float = 900.0
    """Seconds between two input data exports of one notebook."""

    def change(self, wanted: Mapping[str, Any]) -> None:
        """
        Change several switches at once, or none when one of them does not exist or fit.

        :raises ValueError: naming the switch that cannot be set so.
        """
        hints = get_type_hints(type(self))
        for name, value in wanted.items():
            if name not in hints or not _fits(value, hints[name]):
                raise ValueError(f"no such switch or value: {name}")
        for name, value in wanted.items():
            setattr(self, name, value)

    def as_json(self) -> dict[str, Any]:
        """Show every switch with its present value."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_args(hint):
        return any(_fits(value, part) for part in get_args(hint))
    if hint is bool or isinstance(value, bool):
        return hint is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if hint is float else hint)
