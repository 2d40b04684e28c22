# SPDX-License-Identifier: Apache-2.0
"""The handler of each operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from airflow_provider_losant.emulator.http import executions, notebooks

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.http.context import Handler

HANDLERS: Final[Mapping[str, Handler]] = {
    "application.get": notebooks.get_application,
    "notebooks.get": notebooks.list_notebooks,
    "notebooks.post": notebooks.create_notebook,
    "notebook.get": notebooks.get_notebook,
    "notebook.patch": notebooks.patch_notebook,
    "notebook.delete": notebooks.delete_notebook,
    "notebook.execute": executions.execute,
    "notebook.cancelExecution": executions.cancel_execution,
    "notebook.logs": executions.logs,
    "notebook.notebookMinuteCounts": executions.minute_counts,
    "notebook.requestInputDataExport": executions.request_export,
    "notebook.upload": notebooks.upload,
}
