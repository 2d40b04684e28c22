# SPDX-License-Identifier: Apache-2.0
"""The state of the emulator: all applications, notebooks, tokens and executions."""

from __future__ import annotations

import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.emulator.state.identity import Signer, Token, object_id, token_text
from airflow_provider_losant.emulator.state.model import Application, Entity, Export, Notebook, describe_file

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.storage import Storage
    from airflow_provider_losant.emulator.state.timeline import Execution, Script
    from airflow_provider_losant.emulator.switches import Switches


class Backend:
    """
    Holds the state of the emulator.

    Requests and the Python interface use it from different threads: hold ``lock`` to read or change it.

    :param clock: returns the current time in epoch seconds.
    :param switches: the emulator's switches.
    :param folder: the folder for notebook files and the files of executions.
    :param signer: signs file URLs.
    :param storage: saves every change; ``None`` if the state is not to survive the emulator.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        switches: Switches,
        folder: Path,
        signer: Signer,
        storage: Storage | None = None,
    ) -> None:
        self.clock = clock
        self.switches = switches
        self.folder = folder
        self.signer = signer
        self.files_url = ""
        self.lock = threading.RLock()
        self.applications: dict[str, Application] = {}
        self.notebooks: dict[str, Notebook] = {}
        self.tokens: dict[str, Token] = {}
        self.exported_at: dict[str, float] = {}
        self.queued: deque[Execution] = deque()
        self.pending_notifications: deque[Execution] = deque()
        self.pending_exports: deque[Export] = deque()
        self.odd_entries: dict[str, list[tuple[float, Any]]] = {}
        self._executions: dict[str, dict[str, Execution]] = {}
        self._storage = storage

    def put(self, entity: Entity) -> None:
        """Add an entity, or replace the one with the same id."""
        with self.lock:
            match entity:
                case Application():
                    self.applications[entity.id] = entity
                case Notebook():
                    self.notebooks[entity.id] = entity
                case Token():
                    self.tokens[entity.text] = entity
                case _:
                    self._executions.setdefault(entity.notebook_id, {})[entity.id] = entity
            if self._storage is not None:
                self._storage.save(entity)

    def add_application(self, name: str, application_id: str | None = None) -> str:
        """Add an application; returns its id."""
        now = self.clock()
        application = Application(id=(application_id or object_id(now)).lower(), name=name, created_at=now)
        self.put(application)
        return application.id

    def add_token(
        self, application_id: str, scopes: Sequence[str], *, expired: bool = False, text: str = ""
    ) -> str:
        """Add a token; returns its text, which is generated unless given."""
        now = self.clock()
        token_id = object_id(now)
        text = text or token_text(token_id, scopes, now, expired=expired)
        self.put(
            Token(
                id=token_id, text=text, application_id=application_id, scopes=tuple(scopes), expired=expired
            )
        )
        return text

    def add_notebook(
        self,
        name: str,
        *,
        application_id: str,
        file: Path | None,
        inputs: Sequence[Mapping[str, object]],
        outputs: Sequence[Mapping[str, object]],
        max_minutes: float,
        samples: Mapping[str, Path],
        notebook_id: str | None,
    ) -> str:
        """Add a notebook, or replace the one with this id; returns its id, generated unless given."""
        now = self.clock()
        notebook = Notebook(
            id=(notebook_id or object_id(now)).lower(),
            application_id=application_id,
            name=name,
            created_at=now,
            updated_at=now,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            max_minutes=max_minutes,
            samples=samples,
        )
        self.put(notebook)
        if file is not None:
            self.upload(notebook, file.name, file.read_bytes())
        return notebook.id

    def set_script(self, notebook_id: str, script: Script | None) -> None:
        """
        Set the script for later executions of a notebook; ``None`` runs them in a kernel again.

        :raises KeyError: if the notebook does not exist.
        """
        with self.lock:
            self.put(replace(self.notebooks[notebook_id.lower()], script=script))

    def notebook_path(self, notebook_id: str) -> Path:
        """Return the path of a notebook's file."""
        return self.folder / "notebooks" / f"{notebook_id}.ipynb"

    def execution_folder(self, execution_id: str) -> Path:
        """Return the folder of an execution, with its ``inputs`` and ``outputs``."""
        return self.folder / "executions" / execution_id

    def export_folder(self, job_id: str) -> Path:
        """Return the folder of an export of input data."""
        return self.folder / "exports" / job_id

    @property
    def tables(self) -> Path:
        """The folder of the data tables that executions write."""
        return self.folder / "data_tables"

    def upload(self, notebook: Notebook, name: str, content: bytes) -> Notebook:
        """Store the file of a notebook; returns the notebook's new state."""
        path = self.notebook_path(notebook.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        changed = replace(notebook, file_name=name, updated_at=self.clock())
        self.put(changed)
        return changed

    def delete(self, notebook: Notebook) -> None:
        """Delete a notebook and its executions, with their files."""
        with self.lock:
            del self.notebooks[notebook.id]
            executions = self._executions.pop(notebook.id, {}).values()
            self.notebook_path(notebook.id).unlink(missing_ok=True)
            if self._storage is not None:
                self._storage.delete(notebook)
            for execution in executions:
                if self._storage is not None:
                    self._storage.delete(execution)
                shutil.rmtree(self.execution_folder(execution.id), ignore_errors=True)

    def execution(self, notebook_id: str, execution_id: str) -> Execution | None:
        """Return an execution of a notebook; ``None`` if it does not exist."""
        return self._executions.get(notebook_id, {}).get(execution_id)

    def executions(self, notebook_id: str) -> Iterator[Execution]:
        """Iterate over the executions of a notebook, newest first."""
        return reversed(self._executions.get(notebook_id, {}).values())

    def executions_of_application(self, application_id: str) -> Iterator[Execution]:
        """Iterate over the executions of all notebooks of an application."""
        for notebook in self.notebooks.values():
            if notebook.application_id == application_id:
                yield from self.executions(notebook.id)

    def samples(self, notebook: Notebook) -> Mapping[str, Path]:
        """Return the samples of a notebook, and for other file names those of its application's notebooks."""
        samples: dict[str, Path] = {}
        for other in self.notebooks.values():
            if other.application_id == notebook.application_id:
                samples |= other.samples
        return samples | dict(notebook.samples)

    def apply_script(self, execution: Execution, script: Script) -> Execution:
        """Return an execution that goes as the script says, after writing its output files."""
        scripted = execution.apply(script)
        folder = self.execution_folder(execution.id) / "outputs"
        if script.files:
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in script.files.items():
            (folder / name).write_bytes(content)
        outputs = {name: describe_file(name, len(content)) for name, content in script.files.items()}
        return replace(scripted, outputs=outputs)

    def signed_url(self, path: str, signed_at: float) -> str:
        """
        Return a signed URL of a file.

        :param path: the path on the files port.
        :param signed_at: when it was signed, in epoch seconds; it expires ``file_url_ttl`` seconds later.
        """
        expires = int(signed_at + self.switches.file_url_ttl)
        return f"{self.files_url}{path}?{self.signer.sign(path, expires)}"
