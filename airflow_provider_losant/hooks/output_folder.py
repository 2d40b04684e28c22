# SPDX-License-Identifier: Apache-2.0
"""Write output files to object storage atomically: under its name, a file is always complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike
from secrets import token_hex
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_losant._compat import storage_path
from airflow_provider_losant.api.errors import InvalidArgument, LosantError, OutputError
from airflow_provider_losant.api.fields import is_given
from airflow_provider_losant.api.flows.outputs import OutputSelection, download
from airflow_provider_losant.exceptions import NotebookOutputError
from airflow_provider_losant.hooks.arguments import parse_argument, storage_location

if TYPE_CHECKING:
    from airflow_provider_losant._compat import ObjectStoragePath
    from airflow_provider_losant.api.defaults import IfExists
    from airflow_provider_losant.api.flows.steps import FileFlow, OpenSink
    from airflow_provider_losant.api.model import ExecutionRef, File


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFolder:
    """
    The folder for output files.

    :param path: The folder; created if it does not exist.
    :param if_exists: What to do if a file already exists: ``replace`` it, ``skip`` the download, or ``fail``
        before the first download.
    :param field: The name of the argument that gives the folder, for errors.
    """

    path: ObjectStoragePath
    if_exists: IfExists = "replace"
    field: str = "destination"

    @classmethod
    def parse(
        cls,
        folder: str | PathLike[str],
        if_exists: IfExists = "replace",
        *,
        field: str = "destination",
        is_opened: bool = True,
    ) -> OutputFolder:
        """
        Validate a DAG's arguments.

        :param folder: A local path, a URL such as ``s3://bucket/reports``, or an ``ObjectStoragePath``.
        :param field: The argument's name, for the error.
        :param is_opened: Connect to the storage now, and not only for the first file.
        :raises InvalidArgument: it is missing, Airflow has no storage for the URL, or ``if_exists`` is
            unknown.
        :raises NotebookOutputError: Airflow could not connect to the storage, such as for its credentials.
        """
        parse_argument("if_exists", if_exists)
        if not is_given(folder):  # it would be the working directory of the process
            raise InvalidArgument(field, "is missing")
        location = storage_location(folder, field=field)
        try:
            path = storage_path(location)
            if is_opened:
                _ = path.fs
        except (ValueError, ImportError) as error:
            raise InvalidArgument(field, f"Airflow has no storage for {folder}: {error}") from None
        except Exception as error:
            raise NotebookOutputError(f"{field}: could not open {folder}: {error}") from error
        return cls(path=path, if_exists=if_exists, field=field)

    def save(self, ref: ExecutionRef, selection: OutputSelection, retries: int) -> FileFlow[dict[str, str]]:
        """
        Download an execution's outputs into this folder, and return the path of each file by its name.

        :raises OutputError: an output does not exist or is too large, or its file exists and ``if_exists`` is
            ``fail``.
        :raises NotebookOutputError: the folder could not be read or written.
        """
        saved = yield from download(ref, selection, self._sink_for, retries)
        return {name: str(self.path / name) for name in saved}

    def _sink_for(self, file: File) -> OpenSink | None:
        target = self.path / file.name
        if self.if_exists != "replace" and self._exists(target):
            if self.if_exists == "fail":
                raise OutputError(f"{self.field}: {target} already exists")
            return None
        return partial(atomic_write, target, field=self.field)

    def _exists(self, target: ObjectStoragePath) -> bool:
        try:
            # Through the file system, because the path's own method may ignore the connection's credentials.
            return bool(target.fs.exists(target.path))
        except Exception as error:
            raise NotebookOutputError(f"{self.field}: could not read {target}: {error}") from error


@contextmanager
def atomic_write(target: ObjectStoragePath, *, field: str = "destination") -> Iterator[IO[bytes]]:
    """
    Open a file for writing that appears under its name only if the block ends without an error.

    It is written under a temporary name and renamed, because most storages keep a partial file on close.
    After an error, the temporary file is deleted.

    :param field: The name of the argument that gives the folder, for the error.
    :raises NotebookOutputError: the file could not be written.
    """
    part = target.parent / f".{target.name}.{token_hex(4)}.part"
    file: Any = None
    try:
        file = _open(part)
        yield file
        written = file.tell()
        file.close()
        if (size := part.fs.size(part.path)) != written:
            raise OSError(f"stored only {size:,} of {written:,} bytes")  # noqa: TRY301 - cleaned up below
        _rename(part, target)
    except BaseException as error:
        _discard(file, part)
        if isinstance(error, LosantError) or not isinstance(error, Exception):
            raise
        raise NotebookOutputError(f"{field}: could not write {target}: {error}") from error


def _open(part: Any) -> Any:
    try:
        return part.open("wb")
    except FileNotFoundError:
        # Only after an error, because in object storage creating a folder may create a bucket.
        part.fs.makedirs(part.parent.path, exist_ok=True)
        return part.open("wb")


def _rename(part: Any, target: ObjectStoragePath) -> None:
    """Rename a file; in a storage that cannot, copy it and delete the temporary one."""
    from fsspec import AbstractFileSystem

    if type(part.fs).mv is not AbstractFileSystem.mv:
        part.fs.mv(part.path, target.path)
        return
    # Not by the general mv, which takes brackets and other characters of a path for a glob.
    part.fs.cp_file(part.path, target.path)
    try:
        part.fs.rm_file(part.path)
    except Exception as error:
        raise OSError(f"its temporary copy {part} could not be deleted: {error}") from error


def _discard(file: Any, part: Any) -> None:
    """Delete a temporary file, and what a storage keeps of one that is not complete."""
    # Before close, which would store the rest. S3 keeps the parts of an upload that is not aborted.
    with suppress(Exception):
        file.discard()
    with suppress(Exception):
        file.close()
    with suppress(Exception):
        part.fs.rm_file(part.path)
