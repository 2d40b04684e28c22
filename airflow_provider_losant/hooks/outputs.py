# SPDX-License-Identifier: Apache-2.0
"""The methods of the hook that read the output files of an execution from the host of the files."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING

from airflow_provider_losant.api.flows.outputs import OutputSelection, read_output
from airflow_provider_losant.exceptions import permanent_errors_as_config_error
from airflow_provider_losant.hooks.base import LosantConnectionHook
from airflow_provider_losant.hooks.output_folder import OutputFolder

if TYPE_CHECKING:
    from airflow_provider_losant.api.defaults import IfExists


class OutputDownloads(LosantConnectionHook):
    """Download the output files of executions; :class:`.LosantHook` inherits these methods."""

    def download_output(
        self,
        notebook_id: str,
        execution_id: str,
        name: str,
        destination: str | PathLike[str],
        *,
        application_id: str | None = None,
    ) -> str:
        """
        Download one output file of an execution to a folder, and return its path.

        See :meth:`download_outputs`.

        :param name: The file's name, such as ``result.html``.
        """
        ref = self.execution_ref(notebook_id, execution_id, application_id=application_id)
        with permanent_errors_as_config_error():
            folder = OutputFolder.parse(destination)
            selection = OutputSelection.parse_name(name)
        return self.client.run(folder.save(ref, selection, self.settings.max_retries))[name]

    def read_output(
        self,
        notebook_id: str,
        execution_id: str,
        name: str,
        *,
        max_bytes: int = 1_000_000,
        application_id: str | None = None,
    ) -> bytes:
        """
        Return the content of one output file of an execution, without storing it anywhere.

        The token is never sent to the file host.

        :param name: The file's name, such as ``values.json``; it is not a glob.
        :param max_bytes: Maximum size of the file. A larger one is refused by the size in the execution log,
            or as soon as more bytes than that have arrived.
        :raises OutputError: the execution has not ended, or the output does not exist or is too large.
        """
        ref = self.execution_ref(notebook_id, execution_id, application_id=application_id)
        with permanent_errors_as_config_error():
            selection = OutputSelection.parse_name(name, max_bytes)
        return self.client.run(read_output(ref, selection, self.settings.max_retries))

    def download_outputs(
        self,
        notebook_id: str,
        execution_id: str,
        destination: str | PathLike[str],
        *,
        outputs: str | Sequence[str] = ("*",),
        if_exists: IfExists = "replace",
        max_bytes: int | None = None,
        application_id: str | None = None,
    ) -> dict[str, str]:
        """
        Download output files of an execution to a folder, and return the path of each file by its name.

        A file appears under its name only when it is complete. The token is never sent to the file host.

        :param destination: The folder, in any of Airflow's object storages: a local path, a URL such as
            ``s3://bucket/reports``, or an ``ObjectStoragePath``.
        :param outputs: Names of the files, or globs such as ``*.csv``; each must match a file.
        :param if_exists: What to do if a file already exists: ``replace`` it, ``skip`` the download, or
            ``fail`` before the first download.
        :param max_bytes: Maximum size of all files together; None for no limit.
        :raises OutputError: the execution has not ended, or an output does not exist, is too large, or
            already exists.
        :raises NotebookOutputError: the folder could not be read or written.
        """
        ref = self.execution_ref(notebook_id, execution_id, application_id=application_id)
        with permanent_errors_as_config_error():
            folder = OutputFolder.parse(destination, if_exists)
            selection = OutputSelection.parse(outputs, max_bytes)
        return self.client.run(folder.save(ref, selection, self.settings.max_retries))
