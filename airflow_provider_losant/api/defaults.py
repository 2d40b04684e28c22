# SPDX-License-Identifier: Apache-2.0
"""Defaults of the connection's fields; a module of its own, which the connection form can import."""

from __future__ import annotations

from typing import Final

URL: Final = "https://api.losant.com"
APP_URL: Final = "https://app.losant.com"
TIMEOUT: Final = 30.0
"""Seconds."""
MAX_RETRIES: Final = 4
