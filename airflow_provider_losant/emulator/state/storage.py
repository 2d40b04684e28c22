# SPDX-License-Identifier: Apache-2.0
"""The data folder: one small JSON file for each entity, so that it outlives the emulator."""

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


class Archive:
    """
    Keeps what the emulator knows in a folder.

    :param folder: the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)

    def keep(self, entity: Entity) -> None:
        """Write a entity down as it is now."""
        told: Mapping[str, Any] = asdict(entity)
        if isinstance(entity, Notebook):
            script = entity.script and entity.script.as_json()
            told = {
                **told,
                "samples": {name: str(path) for name, path in entity.samples.items()},
                "script": script,
            }
        self._write(self._path(entity), told)

    def forget(self, entity: Entity) -> None:
        """Remove a entity."""
        self._path(entity).unlink(missing_ok=True)

    def things(self) -> Iterator[Entity]:
        """Read everything that was kept, executions in the order of their queueing."""
        for told in self._read("application"):
            yield Application(**told)
        for told in self._read("token"):
            yield Token(**{**told, "scopes": tuple(told["scopes"])})
        for told in self._read("notebook"):
            samples = {name: Path(path) for name, path in told.pop("samples").items()}
            script = told.pop("script")
            yield Notebook(**told, samples=samples, script=script and Script.from_json(script))
        executions = [_execution(told) for told in self._read("execution")]
        yield from sorted(executions, key=lambda execution: execution.queued_at)

    def recall(self) -> dict[str, str]:
        """Read what :meth:`remember` has written; empty the first time."""
        path = self._folder / "server.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def remember(self, **told: str) -> None:
        """Write down what the emulator itself is known by."""
        self._write(self._folder / "server.json", told)

    def _path(self, entity: Entity) -> Path:
        return self._folder / "state" / type(entity).__name__.lower() / f"{entity.id}.json"

    def _read(self, kind: str) -> Iterator[dict[str, Any]]:
        for path in sorted((self._folder / "state" / kind).glob("*.json")):
            yield json.loads(path.read_text(encoding="utf-8"))

    def _write(self, path: Path, told: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        # Tokens are nobody else's business, and a power cut must not leave half a file.
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as target:
            json.dump(told, target)
        unfinished.replace(path)


def _execution(told: dict[str, Any]) -> Execution:
    for kind in ("inputs", "outputs"):
        told[kind] = {name: File(**file) for name, file in told[kind].items()}
    told["errors"] = tuple((name, message) for name, message in told["errors"])
    return Execution(**told)
