# SPDX-License-Identifier: Apache-2.0
"""Deploy a notebook: from a repository, or any object storage, to Losant."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import BaseOperator, storage_path
from airflow_provider_losant.exceptions import LosantConfigError, permanent_errors_as_config_error

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.flows.deploy import Plan
    from airflow_provider_losant.hooks.losant import LosantHook


class LosantNotebookUploadOperator(BaseOperator):
    """
    See to it that a notebook in Losant is the one in a file, and is set up as given.

    What is right already is left alone, so the task may run as often as it likes: the file is uploaded only
    when its content differs from what Losant has, and only settings that differ are changed. A file that is
    no notebook is refused before Losant is asked anything; that check needs ``nbformat``, which the extra
    ``upload`` installs.

    The result (XCom) is a JSON dict: ``notebook_id``, ``application_id``, ``name``, ``file_name``,
    ``created``, ``changed`` and ``uploaded`` (whether that was done), and ``url`` of the notebook in Losant.
    The id is an XCom of its own, too: ``deploy.output["notebook_id"]``.

    See Losant's `Notebook: Upload <https://docs.losant.com/rest-api/notebook/#upload>`__.

    :param path: The ``.ipynb`` file: a local path, a URL such as ``s3://bucket/report.ipynb``, or an
        ``ObjectStoragePath``. (templated)
    :param notebook_id: ID of the notebook. (templated)
    :param name: Without a ``notebook_id``: the notebook's name, exactly. (templated)
    :param create: Make the notebook when none has that name.
    :param description: Losant's description of the notebook. (templated)
    :param image_version: What the notebook runs in, such as ``v4``.
    :param inputs: Losant's input objects, all of them. Not templated, for ``{{...}}`` in them is Losant's.
    :param outputs: Losant's output objects, as ``inputs``.
    :param application_id: ID of the application; by default the connection's. (templated)
    :param losant_conn_id: The Airflow connection. (templated)
    :raises LosantConfigError: the file cannot be read or is no notebook, no notebook or several have the
        name, or an argument, the connection or the token is not right.
    """

    template_fields: Sequence[str] = (
        "path",
        "notebook_id",
        "name",
        "description",
        "application_id",
        "losant_conn_id",
    )
    ui_color = "#e3f4e1"

    def __init__(
        self,
        *,
        path: str | PathLike[str],
        notebook_id: str | None = None,
        name: str | None = None,
        create: bool = False,
        description: str | None = None,
        image_version: str | None = None,
        inputs: Sequence[Mapping[str, Any]] | None = None,
        outputs: Sequence[Mapping[str, Any]] | None = None,
        application_id: str | None = None,
        losant_conn_id: str = "losant_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.notebook_id = notebook_id
        self.name = name
        self.create = create
        self.description = description
        self.image_version = image_version
        self.inputs = inputs
        self.outputs = outputs
        self.application_id = application_id
        self.losant_conn_id = losant_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Check the file, then do what is left to do."""
        from airflow_provider_losant.api.flows.deploy import deploy
        from airflow_provider_losant.hooks.losant import LosantHook

        hook = LosantHook(self.losant_conn_id, self.application_id)
        plan = self._plan(hook)
        with permanent_errors_as_config_error(f"{self.path}: "):
            done = hook.client.run(deploy(plan, hook.settings.max_retries))
        # As a key of its own, for only such can be picked out of a task's output.
        context["ti"].xcom_push(key="notebook_id", value=done.notebook.id)
        return {
            "notebook_id": done.notebook.id,
            "application_id": done.notebook.application_id,
            "name": done.notebook.name,
            "file_name": done.notebook.file_name,
            "created": done.is_created,
            "changed": done.is_changed,
            "uploaded": done.is_uploaded,
            "url": hook.settings.notebook_url(
                application_id=done.notebook.application_id, notebook_id=done.notebook.id, execution_id=""
            ),
        }

    def _plan(self, hook: LosantHook) -> Plan:
        from airflow_provider_losant.api.flows.deploy import NotebookFile, Plan
        from airflow_provider_losant.api.payloads import NotebookFields, notebook_body

        if bool(self.notebook_id) == bool(self.name):
            raise LosantConfigError("notebook_id: give either a notebook_id or a name")
        if self.create and not self.name:
            raise LosantConfigError("create: a notebook can only be made by its name")
        settings: NotebookFields = {}
        for field in ("description", "image_version", "inputs", "outputs"):
            if (value := getattr(self, field)) is not None:
                settings[field] = value
        return Plan(
            application_id=hook.resolve_application_id(),
            notebook_id=self.notebook_id,
            name=self.name,
            may_create=self.create,
            content=NotebookFile(name=storage_path(self.path).name, raw=_read_notebook(self.path)),
            body=notebook_body(settings),
        )


def _read_notebook(path: str | PathLike[str]) -> bytes:
    """
    Read a file, and see that it is a notebook.

    :raises LosantConfigError: it cannot be read, or is none.
    """
    try:
        import nbformat
    except ImportError:
        raise LosantConfigError(
            "nbformat is missing, which checks notebooks: pip install 'airflow-provider-losant[upload]'"
        ) from None
    try:
        file = storage_path(path)
        content: bytes = file.fs.cat_file(file.path)
    except (OSError, ValueError, ImportError) as error:
        raise LosantConfigError(f"path: {path} cannot be read: {error}") from error
    try:
        with warnings.catch_warnings():
            # That a cell has no id is nothing to Losant.
            warnings.simplefilter("ignore")
            nbformat.validate(json.loads(content))
    except Exception as error:  # nbformat has many ways to say it, ImportError among them
        reason = str(error).strip().partition("\n")[0]
        raise LosantConfigError(f"path: {path} is not a notebook: {reason}") from error
    return content
