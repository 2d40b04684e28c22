# SPDX-License-Identifier: Apache-2.0
"""
What an execution has read and written, by the names under which lineage knows it.

The namespace is the API (``losant://api.losant.com``), a name is a path in it. A file of a notebook lies
below the notebook, as its asset does. Where the notebook's configuration says what such a file was made from,
or what is made from it, that goes by a name of its own: ``<application id>/data-tables/<id>``,
``.../devices/<id>``, ``.../events``, ``.../files/<path>``. So notebooks are connected by what they share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import ExecutionRef, Notebook

_TEMPLATE = re.compile(r"\{\{.*?\}\}+")
_OF_DEVICES = ("deviceData", "deviceConnectionHistory", "deviceMetadata")
_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
"""Other names of storages that lineage knows by one."""

Found = Iterator[tuple[str, int | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """
    Something that was read or written.

    :param size: Bytes, where that is known.
    """

    namespace: str
    name: str
    size: int | None = None


def namespace(host: str) -> str:
    """
    Name the API.

    :param host: As in the connection: a host name or a URL.
    """
    netloc = urlsplit(host if "://" in host else f"//{host}").netloc
    return f"losant://{netloc.lower()}"


def notebook_path(application_id: str, notebook_id: str, *below: str) -> str:
    """
    Name a notebook.

    :param below: What belongs to it, such as ``outputs`` and a file name.
    """
    return "/".join([application_id, "notebooks", notebook_id, *(quote(part, safe="") for part in below)])


def input_datasets(result: Mapping[str, Any], notebook: Notebook | None, host: str) -> list[Dataset]:
    """
    Return what an execution has read.

    :param result: The execution, as DAGs see it.
    :param notebook: Its configuration; without it there are only names of files.
    """
    return _named(host, _inputs(result, () if notebook is None else notebook.inputs))


def output_datasets(
    result: Mapping[str, Any], notebook: Notebook | None, host: str, *, is_success: bool
) -> list[Dataset]:
    """
    Return what an execution has written; see :func:`read_by`.

    :param is_success: Whether it ended well; only then is more than its own files known to have been written.
    """
    files = _outputs(result)
    if notebook is None or not is_success:
        return _named(host, files)
    places = (_destination(wanted) for wanted in notebook.outputs)
    return _named(
        host, [*files, *((f"{result['application_id']}/{place}", None) for place in places if place)]
    )


def output_file_datasets(ref: ExecutionRef, names: Iterable[str], host: str) -> list[Dataset]:
    """Return output files of an execution's notebook."""
    paths = (notebook_path(ref.application_id, ref.notebook_id, "outputs", name) for name in names)
    return _named(host, ((path, None) for path in paths))


def storage_dataset(path: str, size: int | None = None) -> Dataset:
    """
    Return a file in object storage, as OpenLineage names it.

    :param path: A URL, in which Airflow may have put a connection before the bucket, or a local path.
    """
    parts = urlsplit(path)
    if not parts.netloc:
        return Dataset(namespace="file", name=parts.path, size=size)
    scheme, bucket = _SCHEMES.get(parts.scheme, parts.scheme), parts.netloc.rpartition("@")[2]
    return Dataset(namespace=f"{scheme}://{bucket}", name=parts.path.lstrip("/"), size=size)


def _named(host: str, found: Iterable[tuple[str, int | None]]) -> list[Dataset]:
    """Name each once, however many files were made of it."""
    sizes: dict[str, list[int | None]] = {}
    for name, size in found:
        sizes.setdefault(name, []).append(size)
    space = namespace(host)
    return [Dataset(namespace=space, name=name, size=_sum(them)) for name, them in sizes.items()]


def _sum(sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _inputs(result: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> Found:
    application_id = result["application_id"]
    for name, file in result["inputs"].items():
        sources = [source for wanted in _wanted(inputs, name) for source in _sources(wanted)]
        if not sources:
            yield notebook_path(application_id, result["notebook_id"], "inputs", name), file["size"]
        for source in sources:
            yield f"{application_id}/{source}", file["size"] if len(sources) == 1 else None


def _outputs(result: Mapping[str, Any]) -> Found:
    for name, file in result["outputs"].items():
        yield notebook_path(result["application_id"], result["notebook_id"], "outputs", name), file["size"]


def _wanted(inputs: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """Return the configured input that a file is; nothing when that is not certain."""
    exact = [it for it in inputs if it["fileName"] == name]
    fitting = exact or [it for it in inputs if _fits(it["fileName"], name)]
    return fitting if len(fitting) == 1 else []


def _fits(template: str, name: str) -> bool:
    return bool(re.fullmatch(".+".join(map(re.escape, _TEMPLATE.split(template))), name))


def _sources(wanted: Mapping[str, Any]) -> list[str]:
    """
    Name what an input is made from; nothing where that takes the values of its templates.

    Nor for an address outside of Losant: it may be a secret in itself.
    """
    kind = wanted["inputType"]
    if kind in _OF_DEVICES:
        ids = wanted.get("deviceIds") or ()
        is_chosen = ids and not wanted.get("deviceTags") and not wanted.get("queryJson")
        return [f"devices/{it.lower()}" for it in ids] if is_chosen and _are_plain(*ids) else ["devices"]
    if kind == "eventData":
        return ["events"]
    if kind == "dataTable" and _are_plain(wanted["dataTableId"]):
        return [_table(wanted)]
    if kind == "applicationFile" and _are_plain(wanted["filePath"]):
        return [_file(wanted["filePath"], is_private=wanted.get("private"))]
    return []


def _destination(wanted: Mapping[str, Any]) -> str | None:
    """Name what an output fills in the application; None when it stays a file of the notebook."""
    if wanted["outputType"] == "dataTable":
        return _table(wanted) if _are_plain(wanted["dataTableId"]) else None
    parts = [wanted.get(f"destination{part}Template", "") for part in ("Directory", "FileName")]
    path = "/".join(part.strip("/") for part in parts if part.strip("/"))
    if not path or not _are_plain(path):
        return None
    return _file(path, is_private=wanted.get("destinationPrivate"))


def _table(wanted: Mapping[str, Any]) -> str:
    return f"data-tables/{wanted['dataTableId'].lower()}"


def _file(path: str, *, is_private: bool | None) -> str:
    """Public and private files are two places."""
    return f"{'private-files' if is_private else 'files'}/{path.strip('/')}"


def _are_plain(*texts: str) -> bool:
    return not any("{{" in text for text in texts)
