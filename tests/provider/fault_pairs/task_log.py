# SPDX-License-Identifier: Apache-2.0
"""Keep the task log of each pair with the pair, instead of printing those of all threads in one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NoReturn

from airflow_provider_losant._compat import AIRFLOW_3

_thread = threading.local()


def begin(lines: list[str]) -> None:
    """Write what this thread logs from now on to a list."""
    _thread.lines = lines


@contextmanager
def kept_apart() -> Iterator[None]:
    """Print nothing of what is logged in this block; only on Airflow 3, which logs by structlog."""
    if not AIRFLOW_3:
        yield
        return
    import structlog

    before = structlog.get_config()["processors"]
    structlog.configure(processors=[structlog.stdlib.PositionalArgumentsFormatter(), _keep])
    try:
        yield
    finally:
        structlog.configure(processors=before)


def _keep(_: Any, level: str, event: MutableMapping[str, Any]) -> NoReturn:
    from structlog import DropEvent

    lines = getattr(_thread, "lines", None)
    if lines is not None:
        lines.append(f"{time.strftime('%H:%M:%S')} {level}: {event['event']}")
    raise DropEvent
