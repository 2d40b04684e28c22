# SPDX-License-Identifier: Apache-2.0
"""What a connection means where it says nothing."""

from __future__ import annotations

from typing import Final

URL: Final = "https://api.losant.com"
APP_URL: Final = "https://app.losant.com"
TIMEOUT: Final = 30.0
MAX_RETRIES: Final = 4
