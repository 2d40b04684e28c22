# SPDX-License-Identifier: Apache-2.0
"""
Notebooks and their output files as Airflow assets, on which DAGs can be scheduled.

The URI of a notebook is ``losant://<API host>/<application id>/notebooks/<notebook id>``, that of an output
file ``.../outputs/<file name>``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_losant._compat import AIRFLOW_3, Asset, AssetAlias, is_asset
from airflow_provider_losant.api import defaults
from airflow_provider_losant.api.fields import file_name, items, losant_id, refuse, text
from airflow_provider_losant.api.settings import api_address
from airflow_provider_losant.openlineage.datasets import namespace, notebook_path

if TYPE_CHECKING:
    from collections.abc import Sequence
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
    name: str | None = None,
    group: str | None = None,
    extra: Mapping[str, Any] | None = None,
    watchers: Sequence[AssetWatcher] = (),
) -> Asset:
    """
    Return the asset of a notebook or of an output file, without reading a connection.

    So it adds no query to DAG parsing.

    :param notebook_id: ID of the notebook.
    :param application_id: ID of the application.
    :param host: Losant's API, as in the connection: a host name or a URL. All spellings of a host give the
        same asset.
    :param output: Name of an output file, which is an asset of its own; None for the notebook.
    :param name: The asset's name in Airflow 3, by default its URI. It is ignored on Airflow 2, whose datasets
        have no names.
    :param group: The asset's group, likewise; by default Airflow's.
    :param extra: The asset's ``extra``.
    :param watchers: Airflow's ``AssetWatcher`` objects, with a trigger such as
        :class:`~airflow_provider_losant.triggers.notebook.LosantNotebookEventTrigger` (Airflow 3).
    :raises ValueError: an argument is not valid; the message names it.
    """
    path = notebook_path(
        losant_id(application_id, field="application_id"),
        losant_id(notebook_id, field="notebook_id"),
        *([] if output is None else ["outputs", file_name(output, field="output")]),
    )
    if not isinstance(extra, Mapping | None):
        refuse(extra, "extra", "is not a mapping")
    watching = list(items(watchers, "watchers", "a list of watchers"))
    arguments: dict[str, Any] = {"watchers": watching} if watching else {}  # Airflow 2 has no watchers
    named = {"name": name, "group": group} if AIRFLOW_3 else {}  # Airflow 2 has neither
    arguments |= {key: it for key, it in named.items() if it is not None}
    return Asset(
        uri=f"{namespace(text(host or defaults.URL, field='host'))}/{path}",
        extra=dict(extra or {}),
        **arguments,
    )


def notebook_asset(
    notebook_id: str,
    *,
    output: str | None = None,
    application_id: str | None = None,
    losant_conn_id: str = "losant_default",
) -> Asset:
    """
    Return the asset of a notebook or of an output file, with host and application of a connection.

    At the top level of a DAG file, it reads the connection on every parse; :func:`create_asset` does not.

    :param notebook_id: ID of the notebook.
    :param output: Name of an output file, which is an asset of its own; None for the notebook.
    :param application_id: ID of the application; by default the connection's.
    :param losant_conn_id: The Airflow connection.
    :raises LosantConfigError: a field of the connection or an id is missing or invalid.
    """
    from airflow_provider_losant.hooks.losant import LosantHook

    hook = LosantHook(text(losant_conn_id, field="losant_conn_id"), application_id)
    return create_asset(
        notebook_id=notebook_id,
        application_id=hook.resolve_application_id(),
        host=hook.settings.base_url,
        output=output,
    )


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Normalize an asset's URI; Airflow calls it for each ``losant://`` URI.

    :raises ValueError: the URI names neither a notebook nor an output of one, or its host is not valid.
    """
    if not (uri.netloc and _PATH.fullmatch(uri.path)) or uri.query:
        raise ValueError(
            "not a losant:// URI, which is losant://<API host>/<application id>/notebooks/<notebook id>, "
            "optionally followed by /outputs/<file name>"
        )
    application, _, notebook, *output = uri.path.removeprefix("/").split("/")
    path = "/".join(["", application.lower(), "notebooks", notebook.lower(), *output])
    return uri._replace(netloc=api_address(uri.netloc).netloc, path=path)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:  # noqa: ARG001 - Airflow's own
    """Return an asset's OpenLineage dataset, in the namespace of Losant's API; Airflow calls it."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parts = urlsplit(asset.uri)
    return Dataset(namespace=f"losant://{parts.netloc}", name=parts.path.removeprefix("/"))


def fill_outlet_events(task: BaseOperator, context: Context, result: Mapping[str, Any], host: str) -> None:
    """
    Add the execution to the ``extra`` of the asset events of a task's outlets.

    An alias gets the notebook's asset. Keys that the user has set in an event are not overwritten.

    :param result: The task's result.
    :param host: Losant's API, as in the connection.
    """
    extra = {name: result[name] for name in _EVENT_FIELDS if name in result}
    for outlet in task.outlets or ():
        if isinstance(outlet, AssetAlias):
            asset = create_asset(
                notebook_id=result["notebook_id"], application_id=result["application_id"], host=host
            )
            context["outlet_events"][outlet].add(asset, extra=extra)
        elif is_asset(outlet):
            event = context["outlet_events"][outlet]
            event.extra = {**extra, **event.extra}
