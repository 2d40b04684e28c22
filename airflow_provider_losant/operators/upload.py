# SPDX-License-Identifier: Apache-2.0
"""Deploy a notebook file to Losant."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import AirflowException, BaseOperator, storage_path
from airflow_provider_losant.exceptions import LosantConfigError, permanent_errors_as_config_error
from airflow_provider_losant.templates import TextTemplates

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.flows.deploy import Plan
    from airflow_provider_losant.hooks.losant import LosantHook


class LosantNotebookUploadOperator(TextTemplates, BaseOperator):
    """
    Deploy a notebook file to Losant; upload it and update settings only where they differ.

    The task is idempotent: the file is uploaded only if its content differs from Losant's, and only settings
    that differ are updated. The file is validated as a notebook before any request is sent; this needs
    ``nbformat``, which the extra ``upload`` installs.

    The result (XCom) is a JSON dict: ``notebook_id``, ``application_id``, ``name``, ``file_name``,
    ``created``, ``changed`` and ``uploaded`` (true or false), and ``url`` of the notebook in Losant. The id
    is also an XCom of its own: ``deploy.output["notebook_id"]``.

    See Losant's `Notebook: Upload <https://docs.losant.com/rest-api/notebook/#upload>`__.

    :param path: The ``.ipynb`` file: a local path, a URL such as ``s3://bucket/report.ipynb``, or an
        ``ObjectStoragePath``. (templated)
    :param notebook_id: ID of the notebook; give either this or ``notebook_name``. (templated)
    :param notebook_name: The notebook's exact name. (templated)
    :param create: Whether to create the notebook if none has that name.
    :param description: The notebook's description. (templated)
    :param image_version: Losant's notebook image, such as ``v4``.
    :param inputs: The complete list of Losant's input objects. Not templated, because ``{{...}}`` in them is
        Losant's.
    :param outputs: The complete list of Losant's output objects. Not templated either.
    :param application_id: ID of the application; by default the connection's. (templated)
    :param losant_conn_id: The Airflow connection. (templated)
    :raises LosantConfigError: the file does not exist, may not be read or is not a notebook, no notebook or
        several have the name, or an argument, the connection or the token is invalid.
    :raises AirflowException: the storage of the file failed.
    """

    template_fields: Sequence[str] = (
        "path",
        "notebook_id",
        "notebook_name",
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
        notebook_name: str | None = None,
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
        self.notebook_name = notebook_name
        self.create = create
        self.description = description
        self.image_version = image_version
        self.inputs = inputs
        self.outputs = outputs
        self.application_id = application_id
        self.losant_conn_id = losant_conn_id
        from airflow_provider_losant.hooks.arguments import UPLOAD_PARSERS, check_literals

        check_literals(self, LosantNotebookUploadOperator, UPLOAD_PARSERS)

    def execute(self, context: Context) -> dict[str, Any]:
        """Validate the file, then deploy it."""
        from airflow_provider_losant.api.flows.deploy import deploy
        from airflow_provider_losant.hooks.losant import LosantHook

        hook = LosantHook(self.losant_conn_id, self.application_id)
        plan = self.plan(hook)
        with permanent_errors_as_config_error(f"{self.path}: "):
            deployed = hook.client.run(deploy(plan, hook.settings.max_retries))
        notebook = deployed.notebook
        # As an XCom of its own, because task.output["..."] cannot select a key of the result.
        context["ti"].xcom_push(key="notebook_id", value=notebook.id)
        return {
            "notebook_id": notebook.id,
            "application_id": notebook.application_id,
            "name": notebook.name,
            "file_name": notebook.file_name,
            "created": deployed.is_created,
            "changed": deployed.is_changed,
            "uploaded": deployed.is_uploaded,
            "url": hook.settings.notebook_url(
                application_id=notebook.application_id, notebook_id=notebook.id, execution_id=""
            ),
        }

    def plan(self, hook: LosantHook) -> Plan:
        """Read and validate the file, and return what is to be deployed; sends no request."""
        from airflow_provider_losant.api.fields import is_given
        from airflow_provider_losant.api.flows.deploy import NotebookFile, Plan
        from airflow_provider_losant.api.payloads import NotebookFields, notebook_body
        from airflow_provider_losant.hooks.arguments import UPLOAD_PARSERS, parse_argument
        from airflow_provider_losant.hooks.target import name_to_find

        with permanent_errors_as_config_error():
            name = name_to_find(self.notebook_id, self.notebook_name)
        if not is_given(self.path):
            raise LosantConfigError("path: is missing")
        if self.create and name is None:
            raise LosantConfigError("create: needs notebook_name; a notebook cannot be created by its id")
        with permanent_errors_as_config_error():
            settings: NotebookFields = {}
            for field in ("description", "image_version", "inputs", "outputs"):
                # An empty text empties the description. Airflow writes a missing value as the text None.
                value = getattr(self, field)
                if not (value is None or (isinstance(value, str) and value == "None")):
                    settings[field] = parse_argument(field, value, UPLOAD_PARSERS)
            notebook_id = parse_argument("notebook_id", self.notebook_id) if name is None else None
            raw = _read_notebook(parse_argument("path", self.path))
        return Plan(
            application_id=hook.resolve_application_id(),
            notebook_id=notebook_id,
            name=name,
            may_create=self.create,
            content=NotebookFile(name=storage_path(self.path).name, raw=raw),
            body=notebook_body(settings),
        )


_NOT_READABLE = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    ValueError,
    ImportError,
)
"""What a storage raises for a path that a retry could not read either; any other error may be temporary."""


def _read_notebook(path: str | PathLike[str]) -> bytes:
    """
    Read a file, and validate that it is a notebook.

    :raises LosantConfigError: the file does not exist or may not be read, is not a notebook, or ``nbformat``
        is not installed.
    :raises AirflowException: the storage failed.
    """
    try:
        import nbformat
    except ImportError:
        raise LosantConfigError(
            "nbformat is not installed, which validates notebooks: "
            "pip install 'airflow-provider-losant[upload]'"
        ) from None
    try:
        file = storage_path(path)
        content: bytes = file.fs.cat_file(file.path)
    except Exception as error:
        kind = LosantConfigError if isinstance(error, _NOT_READABLE) else AirflowException
        raise kind(f"path: {path} cannot be read: {error}") from error
    try:
        with warnings.catch_warnings():
            # Losant accepts cells without an id, about which nbformat warns.
            warnings.simplefilter("ignore")
            nbformat.validate(json.loads(content))
    except Exception as error:  # nbformat raises many classes, among them ImportError
        reason = str(error).strip().partition("\n")[0]
        raise LosantConfigError(f"path: {path} is not a notebook: {reason}") from error
    return content
