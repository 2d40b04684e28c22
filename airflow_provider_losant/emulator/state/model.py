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
    """An application, to which notebooks and tokens belong."""

    id: str
    name: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Notebook:
    """
    A notebook and its settings.

    :param inputs: Losant's input objects.
    :param outputs: Losant's output objects.
    :param requested_at: when an execution was last requested, in epoch seconds.
    :param max_minutes: run minutes after which an execution ends as ``timeout``.
    :param samples: by input file name, the local file that stands for the data that Losant would query.
    :param script: how its executions go; ``None`` runs the notebook in a kernel.
    """

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """
    A requested export of input data.

    :param id: the id of the job.
    :param execution: the execution whose input files are to be exported; it neither runs nor is listed.
    :param notebook: its notebook at that time, with all samples that it can use.
    """

    id: str
    execution: Execution
    notebook: Notebook


Entity = Application | Notebook | Token | Execution


def content_type(name: str) -> str:
    """Guess the content type of a file from its name."""
    by_suffix = {".ipynb": "application/x-ipynb+json", ".log": "text/plain", ".csv": "text/csv"}
    return by_suffix.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def describe_file(name: str, size: int) -> File:
    """Return what the execution log says about a file of ``size`` bytes."""
    return File(size=size, content_type=content_type(name))
