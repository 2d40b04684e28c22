# SPDX-License-Identifier: Apache-2.0
"""Read a notebook file and the settings to deploy it with; for the upload operator and the deploy command."""

from __future__ import annotations

import json
import warnings
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_losant._compat import storage_path
from airflow_provider_losant.api.flows.deploy import NotebookFile, Plan
from airflow_provider_losant.api.payloads import NotebookFields, notebook_body
from airflow_provider_losant.exceptions import LosantConfigError

if TYPE_CHECKING:
    from airflow_provider_losant.hooks.base import LosantConnectionHook


def make_plan(
    hook: LosantConnectionHook,
    path: str | PathLike[str],
    *,
    notebook_id: str | None,
    name: str | None,
    create: bool,
    **fields: Any,
) -> Plan:
    """
    Validate a file, and return how it is to be deployed.

    :param fields: ``description``, ``image_version``, ``inputs`` and ``outputs``; None is not set.
    :raises LosantConfigError: the file cannot be read or is not a notebook, or an argument is invalid.
    """
    if bool(notebook_id) == bool(name):
        raise LosantConfigError("notebook_id: give either a notebook_id or a name")
    if create and not name:
        raise LosantConfigError("create: needs name; a notebook cannot be created by its id")
    settings = {field: value for field, value in fields.items() if value is not None}
    return Plan(
        application_id=hook.resolve_application_id(),
        notebook_id=notebook_id,
        name=name,
        may_create=create,
        content=NotebookFile(name=storage_path(path).name, raw=_read_notebook(path)),
        body=notebook_body(cast("NotebookFields", settings)),
    )


def _read_notebook(path: str | PathLike[str]) -> bytes:
    """
    Read a file, and validate that it is a notebook.

    :raises LosantConfigError: the file cannot be read, is not a notebook, or ``nbformat`` is not installed.
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
    except (OSError, ValueError, ImportError) as error:
        raise LosantConfigError(f"path: {path} cannot be read: {error}") from error
    try:
        with warnings.catch_warnings():
            # Losant accepts cells without an id, about which nbformat warns.
            warnings.simplefilter("ignore")
            nbformat.validate(json.loads(content))
    except Exception as error:  # nbformat raises many classes, among them ImportError
        reason = str(error).strip().partition("\n")[0]
        raise LosantConfigError(f"path: {path} is not a notebook: {reason}") from error
    return content
