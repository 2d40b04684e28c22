# SPDX-License-Identifier: Apache-2.0
"""The seed file: an application and its notebooks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_losant.emulator.state.timeline import Script

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.backend import Backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """
    The content of a seed file.

    :param folder: the folder of the file, to which its paths are relative.
    :param application: id and name of the default application.
    :param notebooks: the settings of the notebooks.
    """

    folder: Path
    application: Mapping[str, str]
    notebooks: tuple[Mapping[str, Any], ...]

    @classmethod
    def load(cls, path: Path) -> Self:
        """
        Load a seed file.

        :raises ValueError: if it is not JSON, or a notebook has no name.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        if any("name" not in notebook for notebook in content.get("notebooks", ())):
            raise ValueError("every notebook in a seed file needs a name")
        return cls(
            folder=path.absolute().parent,
            application=content.get("application", {}),
            notebooks=tuple(content.get("notebooks", ())),
        )

    def apply(self, backend: Backend, application_id: str) -> dict[str, str]:
        """
        Add the notebooks, or replace those with the same id or name; returns their ids by name.

        :param application_id: the application that they belong to.
        """
        return {notebook["name"]: self._add(backend, application_id, notebook) for notebook in self.notebooks}

    def _add(self, backend: Backend, application_id: str, settings: Mapping[str, Any]) -> str:
        ids_by_name = {notebook.name: notebook.id for notebook in backend.notebooks.values()}
        notebook_id = backend.add_notebook(
            settings["name"],
            application_id=application_id,
            file=self.folder / settings["file"] if "file" in settings else None,
            inputs=settings.get("inputs", ()),
            outputs=settings.get("outputs", ()),
            max_minutes=settings.get("maxRunMinutes", 5),
            samples={name: self.folder / path for name, path in settings.get("samples", {}).items()},
            notebook_id=settings.get("id") or ids_by_name.get(settings["name"]),
        )
        if "script" in settings:
            backend.set_script(notebook_id, Script.from_json(settings["script"]))
        return notebook_id
