# SPDX-License-Identifier: Apache-2.0
"""Copy output files of an execution to object storage."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import AirflowException, BaseOperator
from airflow_provider_losant.exceptions import permanent_errors_as_config_error
from airflow_provider_losant.templates import TextTemplates

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.defaults import IfExists
    from airflow_provider_losant.hooks.losant import LosantHook


class LosantNotebookOutputsToObjectStorageOperator(TextTemplates, BaseOperator):
    """
    Copy output files of an execution to a folder of any object storage: local, ``s3``, ``gs``, ``abfs``, ...

    Each file is streamed to a temporary name and renamed after its size has been checked, so a reader of the
    folder never sees a partial file. If a signed URL has expired, a new one is requested. The token is never
    sent to the file host.

    The result (XCom) is a JSON dict: the path of each file by its name.

    :param notebook_id: ID of the notebook; give either this or ``notebook_name``. (templated)
    :param notebook_name: The notebook's exact name, by which it is found when the task starts. If it may have
        been renamed since the execution, give the id, which the result of the execution contains. (templated)
    :param execution_id: ID of the execution, which must have ended. (templated)
    :param destination: The folder: a local path, a URL such as ``s3://bucket/reports/{{ run_id }}``, or an
        ``ObjectStoragePath``. (templated)
    :param outputs: Names of the files, or globs such as ``*.csv``; each must match a file. (templated)
    :param if_exists: What to do if a file already exists: ``replace`` it, ``skip`` the download, or ``fail``
        before the first download.
    :param max_bytes: Maximum size of all files together; None for no limit.
    :param application_id: ID of the application; by default the connection's. (templated)
    :param losant_conn_id: The Airflow connection. (templated)
    :raises LosantConfigError: the execution or an output does not exist, or an output is too large or already
        exists.
    :raises NotebookOutputError: the folder could not be read or written.
    """

    template_fields: Sequence[str] = (
        "notebook_id",
        "notebook_name",
        "execution_id",
        "destination",
        "outputs",
        "application_id",
        "losant_conn_id",
    )
    ui_color = "#e3f4e1"

    def __init__(
        self,
        *,
        notebook_id: str | None = None,
        notebook_name: str | None = None,
        execution_id: str,
        destination: str | PathLike[str],
        outputs: str | Sequence[str] = ("*",),
        if_exists: IfExists = "replace",
        max_bytes: int | None = None,
        application_id: str | None = None,
        losant_conn_id: str = "losant_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.notebook_id = notebook_id
        self.notebook_name = notebook_name
        self.execution_id = execution_id
        self.destination = destination
        self.outputs = outputs
        self.if_exists = if_exists
        self.max_bytes = max_bytes
        self.application_id = application_id
        self.losant_conn_id = losant_conn_id
        self._is_killed = False
        self._hook: LosantHook | None = None
        self._notebook_id = ""
        self._saved: dict[str, str] = {}
        from airflow_provider_losant.hooks.arguments import check_literals

        check_literals(self, LosantNotebookOutputsToObjectStorageOperator)

    def execute(self, context: Context) -> dict[str, str]:
        """Download the selected outputs."""
        from airflow_provider_losant.api.flows.steps import Interrupted
        from airflow_provider_losant.hooks.losant import LosantHook
        from airflow_provider_losant.hooks.output_folder import OutputFolder
        from airflow_provider_losant.hooks.target import resolve_notebook

        self._hook = hook = LosantHook(self.losant_conn_id, self.application_id)
        hook.client.is_interrupted = lambda: self._is_killed
        try:
            with permanent_errors_as_config_error():
                OutputFolder.parse(self.destination)  # before the request that finds the notebook
            self._notebook_id = resolve_notebook(
                hook, context, notebook_id=self.notebook_id, notebook_name=self.notebook_name
            )
            with permanent_errors_as_config_error():
                self._saved = hook.download_outputs(
                    self._notebook_id,
                    self.execution_id,
                    self.destination,
                    outputs=self.outputs,
                    if_exists=self.if_exists,
                    max_bytes=self.max_bytes,
                )
        except Interrupted:
            raise AirflowException("The task was killed") from None
        return self._saved

    def on_kill(self) -> None:
        """
        Stop the download; the partial file is deleted.

        Airflow calls this in a signal handler, where nothing may be asked of it: it sets a flag only.
        """
        self._is_killed = True

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the lineage from the outputs to the files."""
        from airflow_provider_losant.openlineage.emit import Lineage, lineage_of_copy

        if self._hook is None or not self._saved:
            return Lineage()
        ref = self._hook.execution_ref(self._notebook_id, self.execution_id)
        return lineage_of_copy(ref, self._hook.settings.base_url, self._saved, self)
