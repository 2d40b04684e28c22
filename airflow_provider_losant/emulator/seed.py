# SPDX-License-Identifier: Apache-2.0
"""The seed file: an application and its notebooks, to begin with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_losant.emulator.state.timeline import Script

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.server import Emulator


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """What a seed file says; its paths are relative to the file."""

    folder: Path
    application: Mapping[str, str]
    notebooks: tuple[Mapping[str, Any], ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Read a seed file.

        :raises ValueError: when it is no JSON, or a notebook has no name.
        """
        told = json.loads(path.read_text(encoding="utf-8"))
        if any("name" not in notebook for notebook in told.get("notebooks", ())):
            raise ValueError("every notebook in a seed file needs a name")
        return cls(
            folder=path.absolute().parent,
            application=told.get("application", {}),
            notebooks=tuple(told.get("notebooks", ())),
        )

    def sow(self, losant: Emulator) -> dict[str, str]:
        """Make the notebooks; returns their ids by name."""
        return {told["name"]: self._sow(losant, told) for told in self.notebooks}

    def _sow(self, losant: Emulator, told: Mapping[str, Any]) -> str:
        known = {notebook.name: notebook.id for notebook in losant.backend.notebooks.values()}
        notebook_id = losant.add_notebook(
            name=told["name"],
            file=self.folder / told["file"] if "file" in told else None,
            inputs=told.get("inputs", ()),
            outputs=told.get("outputs", ()),
            max_run_minutes=told.get("maxRunMinutes", 5),
            samples={name: self.folder / path for name, path in told.get("samples", {}).items()},
            notebook_id=told.get("id") or known.get(told["name"]),
        )
        if "script" in told:
            losant.script(notebook_id, Script.from_json(told["script"]))
        return notebook_id
