# SPDX-License-Identifier: Apache-2.0
"""Defaults that several modules know; a module of its own, which the connection form can import."""

from __future__ import annotations

from typing import Final

URL: Final = "https://api.losant.com"
APP_URL: Final = "https://app.losant.com"
TIMEOUT: Final = 30.0
"""Seconds."""
MAX_RETRIES: Final = 4
MAX_LOG_LAG: Final = 60.0
"""Seconds that Losant may lag behind a submission: of the argument, and where a task's own is not known."""
