# SPDX-License-Identifier: Apache-2.0
"""
The OpenLineage datasets that an execution has read and written.

The namespace is the API (``losant://api.losant.com``), and a name is a path in it. A file of a notebook is
named below the notebook, as its asset is. If the notebook's configuration names the source of an input or the
destination of an output, that is a dataset of its own: ``<application id>/data-tables/<id>``,
``.../devices/<id>``, ``.../events``, ``.../files/<path>``. So notebooks that share data are connected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_losant.api.settings import api_address

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import ExecutionRef, Notebook

_TEMPLATE = re.compile(r"\{\{.*?\}\}+")
_OF_DEVICES = ("deviceData", "deviceConnectionHistory", "deviceMetadata")
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/]*)(?P<path>.*)", re.DOTALL)
"""A URL of a storage, whose path is a name as it is: ``#``, ``?`` and ``%`` have no meaning in it."""
_LOCAL = ("file", "local")
_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
"""Aliases of URL schemes that OpenLineage's naming rules unify."""

Found = Iterator[tuple[str, int | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """
    A dataset that was read or written.

    :param size: Bytes; None if unknown.
    """

    namespace: str
    name: str
    size: int | None = None


def namespace(host: str) -> str:
    """
    Return the namespace of an API.

    :param host: As in the connection: a host name or a URL.
    :raises InvalidArgument: it is neither.
    """
    return f"losant://{api_address(host).netloc}"


def notebook_path(application_id: str, notebook_id: str, *below: str) -> str:
    """
    Return the path of a notebook, or of a part of it.

    :param below: The part, such as ``outputs`` and a file name.
    """
    return "/".join([application_id, "notebooks", notebook_id, *(quote(part, safe="") for part in below)])


def input_datasets(result: Mapping[str, Any], notebook: Notebook | None, host: str) -> list[Dataset]:
    """
    Return the datasets that an execution has read.

    :param result: The task's result.
    :param notebook: The notebook's configuration; without it, only the input files are named.
    :param host: Losant's API, as in the connection.
    """
    return _named(host, _inputs(result, () if notebook is None else notebook.inputs))


def output_datasets(
    result: Mapping[str, Any], notebook: Notebook | None, host: str, *, is_success: bool
) -> list[Dataset]:
    """
    Return the datasets that an execution has written; parameters as for :func:`input_datasets`.

    :param is_success: Whether it completed; otherwise only its output files are known to be written.
    """
    files = _outputs(result)
    if notebook is None or not is_success:
        return _named(host, files)
    destinations = (_destination(output) for output in notebook.outputs)
    return _named(host, [*files, *((f"{result['application_id']}/{it}", None) for it in destinations if it)])


def output_file_datasets(ref: ExecutionRef, names: Iterable[str], host: str) -> list[Dataset]:
    """Return the datasets of an execution's output files with these names."""
    paths = (notebook_path(ref.application_id, ref.notebook_id, "outputs", name) for name in names)
    return _named(host, ((path, None) for path in paths))


def storage_dataset(path: str, size: int | None = None) -> Dataset:
    """
    Return the dataset of a file in object storage.

    :param path: A URL, in which Airflow may have added a connection id before the bucket, or a local path.
    :param size: Bytes; None if unknown.
    """
    url = _URL.fullmatch(path)
    if url is None:
        return Dataset(namespace="file", name=path, size=size)
    scheme, authority, name = url["scheme"].lower(), url["authority"].rpartition("@")[2], url["path"]
    if scheme in _LOCAL:
        return Dataset(namespace=f"file://{authority}" if authority else "file", name=name, size=size)
    return Dataset(
        namespace=f"{_SCHEMES.get(scheme, scheme)}://{authority}", name=name.lstrip("/"), size=size
    )


def _named(host: str, found: Iterable[tuple[str, int | None]]) -> list[Dataset]:
    """Return one dataset per name, with the sum of the sizes."""
    sizes: dict[str, list[int | None]] = {}
    for name, size in found:
        sizes.setdefault(name, []).append(size)
    api = namespace(host)
    return [Dataset(namespace=api, name=name, size=_sum(of_name)) for name, of_name in sizes.items()]


def _sum(sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _inputs(result: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> Found:
    application_id = result["application_id"]
    for name, file in result["inputs"].items():
        sources = [source for configured in _matching(inputs, name) for source in _sources(configured)]
        if not sources:
            yield notebook_path(application_id, result["notebook_id"], "inputs", name), file["size"]
        for source in sources:
            yield f"{application_id}/{source}", file["size"] if len(sources) == 1 else None


def _outputs(result: Mapping[str, Any]) -> Found:
    for name, file in result["outputs"].items():
        yield notebook_path(result["application_id"], result["notebook_id"], "outputs", name), file["size"]


def _matching(inputs: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """Return the configured input that a file belongs to; empty if that is ambiguous."""
    exact = [it for it in inputs if it["fileName"] == name]
    matching = exact or [it for it in inputs if _matches(it["fileName"], name)]
    return matching if len(matching) == 1 else []


def _matches(template: str, name: str) -> bool:
    return bool(re.fullmatch(".+".join(map(re.escape, _TEMPLATE.split(template))), name))


def _sources(configured: Mapping[str, Any]) -> list[str]:
    """
    Return the paths of an input's sources; empty if they depend on template values.

    A URL outside of Losant is omitted too, because it may be a secret.
    """
    kind = configured["inputType"]
    if kind in _OF_DEVICES:
        ids = configured.get("deviceIds") or ()
        is_list_of_ids = ids and not configured.get("deviceTags") and not configured.get("queryJson")
        is_known = is_list_of_ids and _have_no_template(*ids)
        return [f"devices/{it.lower()}" for it in ids] if is_known else ["devices"]
    if kind == "eventData":
        return ["events"]
    if kind == "dataTable" and _have_no_template(configured["dataTableId"]):
        return [_table(configured)]
    if kind == "applicationFile" and _have_no_template(configured["filePath"]):
        return [_file(configured["filePath"], is_private=configured.get("private"))]
    return []


def _destination(configured: Mapping[str, Any]) -> str | None:
    """Return the path of an output's destination; None if it is unknown or only a file of the notebook."""
    if configured["outputType"] == "dataTable":
        return _table(configured) if _have_no_template(configured["dataTableId"]) else None
    parts = [configured.get(f"destination{part}Template", "") for part in ("Directory", "FileName")]
    path = "/".join(part.strip("/") for part in parts if part.strip("/"))
    if not path or not _have_no_template(path):
        return None
    return _file(path, is_private=configured.get("destinationPrivate"))


def _table(configured: Mapping[str, Any]) -> str:
    return f"data-tables/{configured['dataTableId'].lower()}"


def _file(path: str, *, is_private: bool | None) -> str:
    """Return a file's path; Losant's public and private files are separate."""
    return f"{'private-files' if is_private else 'files'}/{path.strip('/')}"


def _have_no_template(*texts: str) -> bool:
    return not any("{{" in text for text in texts)
