# SPDX-License-Identifier: Apache-2.0
"""Defaults, bounds and choices that several modules know; the connection form imports nothing else."""

from __future__ import annotations

from typing import Final, Literal

URL: Final = "https://api.losant.com"
APP_URL: Final = "https://app.losant.com"
TIMEOUT: Final = 30.0
"""Seconds."""
MAX_RETRIES: Final = 4
MAX_LOG_LAG: Final = 60.0
"""Seconds that Losant may lag behind a submission: of the argument, and where a task's own is not known."""
LONGEST: Final = 3650 * 24 * 3600.0
"""Seconds; a later deadline may be beyond the timestamps that Airflow and its database can handle."""
RETRY_ON: Final = ("errored", "timeout", "canceled")
"""Statuses of executions that ended without completing."""
FINAL_STATUSES: Final = ("completed", *RETRY_ON)
SaveOutputsWhen = Literal["success", "always"]
IfExists = Literal["replace", "skip", "fail"]
IfRunning = Literal["start", "wait", "adopt", "skip", "fail", "cancel_previous"]
Window = Literal["day", "billing_period"]
OnExceeded = Literal["fail", "skip"]
