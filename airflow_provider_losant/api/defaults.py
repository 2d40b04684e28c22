# SPDX-License-Identifier: Apache-2.0
"""Defaults and bounds that several modules know; DAG files and the connection form import nothing else."""

from __future__ import annotations

from typing import Final

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
SAVE_OUTPUTS_WHEN: Final = ("success", "always")
ONE_NOTEBOOK = "Give exactly one of notebook_id and notebook_name"
"""What is wrong with a task that has both or neither."""
