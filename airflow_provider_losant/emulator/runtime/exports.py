# SPDX-License-Identifier: Apache-2.0
"""Makes the archive of an export of input data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zipfile import ZIP_DEFLATED, ZipFile

from airflow_provider_losant.emulator.runtime.inputs import prepare_inputs

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.model import Notebook
    from airflow_provider_losant.emulator.state.timeline import Execution

ARCHIVE: Final = "inputs.zip"


def make_archive(
    notebook: Notebook, execution: Execution, folder: Path, tables: Path, *, repeat_samples: bool
) -> None:
    """
    Write the input files that an execution would get to a zip file.

    :param folder: the folder of the export, to which ``inputs.zip`` is written.
    :param tables: the folder of the data tables that earlier executions have written.
    :param repeat_samples: whether samples of device data repeat.
    :raises InputError: if an input file cannot be prepared.
    """
    inputs = folder / "inputs"
    try:
        prepare_inputs(notebook, execution, inputs, tables, repeat_samples=repeat_samples)
        with ZipFile(folder / ARCHIVE, "w", ZIP_DEFLATED) as archive:
            for path in sorted(inputs.iterdir()):
                archive.write(path, path.name)
    finally:
        shutil.rmtree(inputs, ignore_errors=True)
