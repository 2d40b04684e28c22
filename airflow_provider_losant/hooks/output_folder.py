# SPDX-License-Identifier: Apache-2.0
"""Landing files in object storage: whole under their name, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from os import PathLike
from secrets import token_hex
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

from airflow_provider_losant._compat import storage_path
from airflow_provider_losant.api.errors import InvalidArgument, LosantError, OutputError
from airflow_provider_losant.api.flows.outputs import OutputSelection, download
from airflow_provider_losant.exceptions import NotebookOutputError

if TYPE_CHECKING:
    from airflow_provider_losant._compat import ObjectStoragePath
    from airflow_provider_losant.api.flows.steps import FileFlow, OpenSink
    from airflow_provider_losant.api.model import ExecutionRef, File

IfExists = Literal["replace", "skip", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFolder:
    """
    Where outputs are to lie.

    :param path: The folder; it is made when it is not there.
    :param if_exists: What to do about a file that is there already: ``replace`` it, ``skip`` what would take
        its place, or ``fail`` before anything is fetched.
    """

    path: ObjectStoragePath
    if_exists: IfExists = "replace"

    @classmethod
    def parse(
        cls, place: str | PathLike[str], if_exists: IfExists = "replace", *, field: str = "destination"
    ) -> OutputFolder:
        """
        Find the folder.

        :param field: The argument that names it, for the error.
        :raises InvalidArgument: there is no such storage, or no such rule.
        """
        if if_exists not in get_args(IfExists):
            raise InvalidArgument("if_exists", f"{if_exists!r} is none of {', '.join(get_args(IfExists))}")
        try:
            path = storage_path(place)
            _ = path.fs
        except (ValueError, ImportError) as error:
            raise InvalidArgument(field, f"Airflow knows no storage for {place}: {error}") from None
        return cls(path=path, if_exists=if_exists)

    def save(self, ref: ExecutionRef, selection: OutputSelection, retries: int) -> FileFlow[dict[str, str]]:
        """
        Fetch a run's outputs into this folder; returns the path of each by its name.

        :raises OutputError: there is no such output, or one that must not be replaced.
        :raises NotebookOutputError: the folder could not be written to.
        """
        saved = yield from download(ref, selection, self._place, retries)
        return {name: str(self.path / name) for name in saved}

    def _place(self, file: File) -> OpenSink | None:
        target = self.path / file.name
        if self.if_exists != "replace" and _exists(target):
            if self.if_exists == "fail":
                raise OutputError(f"{target} is there already")
            return None
        return partial(atomic_write, target)


@contextmanager
def atomic_write(target: ObjectStoragePath) -> Iterator[IO[bytes]]:
    """
    Open a file that gets its name when the block ends well; otherwise nothing is left of it.

    In most storages closing a file keeps what was written so far, so until then it needs another name.

    :raises NotebookOutputError: it could not be written.
    """
    part = target.parent / f".{target.name}.{token_hex(4)}.part"
    try:
        with _open(part) as file:
            yield file
            written = file.tell()
        if (size := part.fs.size(part.path)) != written:
            raise OSError(f"only {size:,} of {written:,} bytes were kept")  # noqa: TRY301 - it is tidied up below
        part.fs.mv(part.path, target.path)
    except BaseException as error:
        with suppress(Exception):
            part.fs.rm_file(part.path)
        if isinstance(error, LosantError) or not isinstance(error, Exception):
            raise
        raise NotebookOutputError(f"{target} could not be written: {error}") from error


def _open(part: Any) -> Any:
    try:
        return part.open("wb")
    except FileNotFoundError:
        # Only now, for to make a folder in a store without folders may be to make a bucket.
        part.fs.makedirs(part.parent.path, exist_ok=True)
        return part.open("wb")


def _exists(target: ObjectStoragePath) -> bool:
    try:
        # By way of the file system, for the path's own method may look without the connection's credentials.
        return bool(target.fs.exists(target.path))
    except Exception as error:
        raise NotebookOutputError(f"{target} could not be looked at: {error}") from error
