# SPDX-License-Identifier: Apache-2.0
"""The data folder: one small JSON file per entity, so that the state survives a restart of the emulator."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airflow_provider_losant.emulator.state.identity import Token
from airflow_provider_losant.emulator.state.model import Application, Entity, Notebook
from airflow_provider_losant.emulator.state.timeline import Execution, File, Script


class Storage:
    """
    Stores the state of the emulator in a folder.

    :param folder: the data folder; created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)

    def save(self, entity: Entity) -> None:
        """Write the current state of an entity, replacing the earlier one."""
        record: Mapping[str, Any] = asdict(entity)
        if isinstance(entity, Notebook):
            script = entity.script and entity.script.as_json()
            record = {
                **record,
                "samples": {name: str(path) for name, path in entity.samples.items()},
                "script": script,
            }
        self._write(self._path(entity), record)

    def delete(self, entity: Entity) -> None:
        """Delete the file of an entity, if there is one."""
        self._path(entity).unlink(missing_ok=True)

    def load(self) -> Iterator[Entity]:
        """Read all saved entities; executions come last, ordered by the time at which they were queued."""
        for record in self._read("application"):
            yield Application(**record)
        for record in self._read("token"):
            yield Token(**{**record, "scopes": tuple(record["scopes"])})
        for record in self._read("notebook"):
            samples = {name: Path(path) for name, path in record.pop("samples").items()}
            script = record.pop("script")
            yield Notebook(**record, samples=samples, script=script and Script.from_json(script))
        executions = [_execution(record) for record in self._read("execution")]
        yield from sorted(executions, key=lambda execution: execution.queued_at)

    def load_server(self) -> dict[str, str]:
        """Read what :meth:`save_server` has written; empty the first time."""
        path = self._folder / "server.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def save_server(self, **record: str) -> None:
        """Write the identity of the emulator itself: default application, token and signing secret."""
        self._write(self._folder / "server.json", record)

    def _path(self, entity: Entity) -> Path:
        return self._folder / "state" / type(entity).__name__.lower() / f"{entity.id}.json"

    def _read(self, kind: str) -> Iterator[dict[str, Any]]:
        for path in sorted((self._folder / "state" / kind).glob("*.json")):
            yield json.loads(path.read_text(encoding="utf-8"))

    def _write(self, path: Path, record: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".part")
        # Other users must not read tokens, and a power cut must not leave half a file.
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
            json.dump(record, target)
        temporary.replace(path)


def _execution(record: dict[str, Any]) -> Execution:
    for kind in ("inputs", "outputs"):
        record[kind] = {name: File(**file) for name, file in record[kind].items()}
    record["errors"] = tuple((name, message) for name, message in record["errors"])
    return Execution(**record)
