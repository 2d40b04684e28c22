# SPDX-License-Identifier: Apache-2.0
"""
A notebook, or a file that it leaves behind, as an asset: what other DAGs can be scheduled on.

The URI is ``losant://<API host>/<application id>/notebooks/<notebook id>``, and for one of its files
``.../outputs/<file name>``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_losant._compat import Asset, AssetAlias, is_asset
from airflow_provider_losant.api import defaults
from airflow_provider_losant.api.model import losant_id
from airflow_provider_losant.openlineage.datasets import namespace, notebook_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from urllib.parse import SplitResult

    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.sdk import AssetWatcher

    from airflow_provider_losant._compat import BaseOperator, Context

_PATH = re.compile(r"/([0-9a-f]{24})/notebooks/([0-9a-f]{24})(/outputs/[^/]+)?", re.IGNORECASE)
_EVENT_FIELDS = (
    "execution_id",
    "notebook_id",
    "application_id",
    "status",
    "relative_to",
    "finished_at",
    "durations",
    "max_run_minutes",
    "outputs",
    "url",
)


def create_asset(
    *,
    notebook_id: str,
    application_id: str,
    host: str = defaults.URL,
    output: str | None = None,
    extra: Mapping[str, Any] | None = None,
    watchers: Sequence[AssetWatcher] = (),
) -> Asset:
    """
    Return the asset of a notebook; needs no connection, so it is cheap at the top of a DAG file.

    :param notebook_id: ID of the notebook.
    :param application_id: ID of its application.
    :param host: Losant's API, as in the connection: a host name or a URL.
    :param output: Name of one of its output files, which is an asset of its own.
    :param extra: What else to keep with the asset.
    :param watchers: What looks out for events of the asset, such as a
        :class:`~airflow_provider_losant.triggers.notebook.LosantNotebookEventTrigger` (Airflow 3).
    :raises ValueError: an id is none.
    """
    path = notebook_path(
        losant_id(application_id, field="application_id"),
        losant_id(notebook_id, field="notebook_id"),
        *([] if output is None else ["outputs", output]),
    )
    more: dict[str, Any] = {"watchers": list(watchers)} if watchers else {}  # which Airflow 2 does not know
    return Asset(uri=f"{namespace(host)}/{path}", extra=dict(extra or {}), **more)


def notebook_asset(
    notebook_id: str,
    *,
    output: str | None = None,
    application_id: str | None = None,
    losant_conn_id: str = "losant_default",
) -> Asset:
    """
    Return the asset of a notebook, host and application taken from a connection.

    At the top of a DAG file it asks for the connection whenever the file is parsed; see
    :func:`create_asset` for what does not.

    :param notebook_id: ID of the notebook.
    :param output: Name of one of its output files, which is an asset of its own.
    :param application_id: ID of its application; by default the connection's.
    :param losant_conn_id: The Airflow connection.
    :raises LosantConfigError: the connection lacks something or makes no sense.
    """
    from airflow_provider_losant.hooks.losant import LosantHook

    hook = LosantHook(losant_conn_id, application_id)
    return create_asset(
        notebook_id=notebook_id,
        application_id=hook.resolve_application_id(),
        host=hook.settings.base_url,
        output=output,
    )


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Give all spellings of an asset's URI the same form; Airflow calls it for each ``losant://``.

    :raises ValueError: it does not name a notebook, nor an output of one.
    """
    if not (uri.netloc and _PATH.fullmatch(uri.path)) or uri.query:
        raise ValueError(
            "a losant:// URI is losant://<API host>/<application id>/notebooks/<notebook id>, "
            "and may go on with /outputs/<file name>"
        )
    application, _, notebook, *output = uri.path.removeprefix("/").split("/")
    path = "/".join(["", application.lower(), "notebooks", notebook.lower(), *output])
    return uri._replace(netloc=uri.netloc.lower(), path=path)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:  # noqa: ARG001 - Airflow's own
    """Name an asset as OpenLineage does: the API is the namespace."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=f"losant://{parts.netloc}", name=parts.path.removeprefix("/"))


def fill_outlet_events(task: BaseOperator, context: Context, result: Mapping[str, Any], host: str) -> None:
    """
    Say in the events of a task's outlets which execution brought them about.

    An alias gets the notebook's own asset. What the user has put into an event stays.

    :param result: The task's result.
    :param host: Losant's API.
    """
    extra = {name: result[name] for name in _EVENT_FIELDS if name in result}
    for outlet in task.outlets or ():
        if isinstance(outlet, AssetAlias):
            made = create_asset(
                notebook_id=result["notebook_id"], application_id=result["application_id"], host=host
            )
            context["outlet_events"][outlet].add(made, extra=extra)
        elif is_asset(outlet):
            event = context["outlet_events"][outlet]
            event.extra = {**extra, **event.extra}
