# SPDX-License-Identifier: Apache-2.0
"""What the emulator knows: applications, notebooks, tokens and executions, and the rules between them."""

from __future__ import annotations

import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_provider_losant.emulator.state.identity import Signer, Token, object_id, token_text
from airflow_provider_losant.emulator.state.model import Application, Entity, Notebook, describe_file
from airflow_provider_losant.emulator.state.timeline import Execution, Script

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.storage import Storage
    from airflow_provider_losant.emulator.switches import Switches


class Backend:
    """
    Holds the whole state of a local Losant.

    Requests and the Python interface reach it from different threads: whoever looks or changes it holds
    ``lock``.

    :param folder: where notebook files and the files of executions lie.
    :param storage: keeps everything that is new or has changed.
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
        self.pending_callbacks: deque[Execution] = deque()
        self._executions: dict[str, dict[str, Execution]] = {}
        self._storage = storage

    def put(self, entity: Entity) -> None:
        """Take in something new, or a new state of something known."""
        with self.lock:
            match entity:
                case Application():
                    self.applications[entity.id] = entity
                case Notebook():
                    self.notebooks[entity.id] = entity
                case Token():
                    self.tokens[entity.text] = entity
                case Execution():
                    self._executions.setdefault(entity.notebook_id, {})[entity.id] = entity
            if self._storage is not None:
                self._storage.save(entity)

    def add_application(self, name: str, application_id: str | None = None) -> str:
        """Make an application."""
        now = self.clock()
        made = Application(id=(application_id or object_id(now)).lower(), name=name, created_at=now)
        self.put(made)
        return made.id

    def add_token(
        self, application_id: str, scopes: Sequence[str], *, expired: bool = False, text: str = ""
    ) -> str:
        """Make a token, of the given text or an invented one."""
        now = self.clock()
        token_id = object_id(now)
        text = text or token_text(token_id, scopes, now, expired=expired)
        self.put(
            Token(
                id=token_id, text=text, application_id=application_id, scopes=tuple(scopes), expired=expired
            )
        )
        return text

    def notebook_path(self, notebook_id: str) -> Path:
        """Say where the file of a notebook lies."""
        return self.folder / "notebooks" / f"{notebook_id}.ipynb"

    def execution_folder(self, execution_id: str) -> Path:
        """Say where the ``inputs`` and ``outputs`` of an execution lie."""
        return self.folder / "executions" / execution_id

    @property
    def tables(self) -> Path:
        """Where the data tables lie that executions fill."""
        return self.folder / "data_tables"

    def upload(self, notebook: Notebook, name: str, content: bytes) -> Notebook:
        """Give a notebook its file."""
        path = self.notebook_path(notebook.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        changed = replace(notebook, file_name=name, updated_at=self.clock())
        self.put(changed)
        return changed

    def delete(self, notebook: Notebook) -> None:
        """Forget a notebook, the log of its executions, and their files."""
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
        """Find an execution of a notebook."""
        return self._executions.get(notebook_id, {}).get(execution_id)

    def executions(self, notebook_id: str) -> Iterator[Execution]:
        """Go through the executions of a notebook, newest first."""
        return reversed(self._executions.get(notebook_id, {}).values())

    def samples(self, notebook: Notebook) -> Mapping[str, Path]:
        """Gather sample data: a notebook's own, and beside it that of its application's other notebooks."""
        known: dict[str, Path] = {}
        for other in self.notebooks.values():
            if other.application_id == notebook.application_id:
                known |= other.samples
        return known | dict(notebook.samples)

    def of_application(self, application_id: str) -> Iterator[Execution]:
        """Go through the executions of all notebooks of an application."""
        for notebook in self.notebooks.values():
            if notebook.application_id == application_id:
                yield from self.executions(notebook.id)

    def apply_script(self, execution: Execution, script: Script) -> Execution:
        """Lay out an execution as its script says, with its result files."""
        line = execution.apply(script)
        folder = self.execution_folder(execution.id) / "outputs"
        if script.files:
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in script.files.items():
            (folder / name).write_bytes(content)
        return replace(
            line, outputs={name: describe_file(name, len(content)) for name, content in script.files.items()}
        )

    def execution_to_api(self, execution: Execution) -> dict[str, Any]:
        """Write the log entry of an execution as it looks now."""
        now = self.clock()
        signed_at = now if self.switches.resign_urls else execution.ended_at or now
        return execution.to_api(
            now, lambda kind, name: self.address(f"/{execution.id}/{kind}/{quote(name)}", signed_at)
        )

    def address(self, path: str, signed_at: float) -> str:
        """Make the signed address under which a file can be fetched for a while."""
        expires = int(signed_at + self.switches.file_url_ttl)
        return f"{self.files_url}{path}?{self.signer.sign(path, expires)}"
