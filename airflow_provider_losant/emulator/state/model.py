# SPDX-License-Identifier: Apache-2.0
"""The entities that the emulator stores: applications, notebooks, tokens and executions."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_losant.emulator.state.identity import Token
from airflow_provider_losant.emulator.state.timeline import Execution, File, Script


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """An application: the space that notebooks and tokens belong to."""

    id: str
    name: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """A notebook: its settings, and the sample data that stands for what Losant would query."""

    id: str
    application_id: str
    name: str
    created_at: float
    updated_at: float
    description: str | None = None
    image_version: str = "v4"
    inputs: Sequence[Mapping[str, Any]] = ()
    outputs: Sequence[Mapping[str, Any]] = ()
    file_name: str | None = None
    requested_at: float = 0.0
    max_minutes: float = 5
    samples: Mapping[str, Path] = field(default_factory=dict)
    script: Script | None = None


Entity = Application | Notebook | Token | Execution


def content_type(name: str) -> str:
    """Guess what a file holds from its name."""
    known = {".ipynb": "application/x-ipynb+json", ".log": "text/plain", ".csv": "text/csv"}
    return known.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def describe_file(name: str, size: int) -> File:
    """Describe a file for the log."""
    return File(size=size, content_type=content_type(name))
