# SPDX-License-Identifier: Apache-2.0
"""Where the repository is. Standard library only: used before anything is installed."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The root folder of the repository."""
