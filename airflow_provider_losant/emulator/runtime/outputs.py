# SPDX-License-Identifier: Apache-2.0
"""The output files of an execution: those that the notebook is configured to keep."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_losant.emulator.runtime.templates import render
from airflow_provider_losant.emulator.state.identity import is_safe_name
from airflow_provider_losant.emulator.state.model import describe

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.timeline import File

RESULTS: Final = ("result.html", "result.ipynb", "result.log", "result.error.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """
    Gathers what an execution leaves behind.

    :param written: ``OUTPUT_DIR``.
    :param results: where the runner has put the ``result.*`` files.
    :param kept: where the files go that the log lists.
    :param application_files: stands for the files of the application.
    :param tables: stands for its data tables.
    :param known: what templates can name.
    """

    written: Path
    results: Path
    kept: Path
    application_files: Path
    tables: Path
    known: Mapping[str, Any]
    files: dict[str, File] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def take(self, wanted: Mapping[str, Any]) -> None:
        """Keep what one output asks for, or note why it cannot be kept."""
        name = render(wanted.get("fileName") or wanted["directoryName"], self.known)
        if name == "result.pdf":
            self.errors.append(("PdfNotProduced", "The emulator makes no result.pdf; use result.html."))
        elif not is_safe_name(name):
            self.errors.append(("OutputError", f"This is no file name: {name!r}"))
        elif wanted["outputType"] == "directory":
            self._take_directory(wanted, name)
        else:
            self._take_file(wanted, name)

    def take_results(self) -> None:
        """Keep every ``result.*`` file, asked for or not."""
        for name in RESULTS:
            if (self.results / name).is_file():
                self._keep(self.results / name, name)

    def _take_file(self, wanted: Mapping[str, Any], name: str) -> None:
        is_result = wanted["outputType"] == "executionResult"
        source = (self.results if is_result else self.written) / name
        if not source.is_file():
            # There is an error log only when there was an error.
            if not is_result:
                self.errors.append(
                    ("MissingOutputError", f"The notebook did not write {name} to OUTPUT_DIR.")
                )
            return
        self._keep(source, name)
        if wanted["outputType"] == "dataTable":
            self._fill_table(source, wanted, render(wanted["dataTableId"], self.known))
        elif "destinationFileNameTemplate" in wanted:
            self._publish(source, wanted, render(wanted["destinationFileNameTemplate"], self.known))

    def _fill_table(self, source: Path, wanted: Mapping[str, Any], table_id: str) -> None:
        if is_safe_name(table_id):
            _fill(self.tables / f"{table_id}.csv", source, wanted)
        else:
            self.errors.append(("OutputError", f"This is no data table: {table_id!r}"))

    def _take_directory(self, wanted: Mapping[str, Any], name: str) -> None:
        for source in _files_under(self.written / name):
            relative = source.relative_to(self.written).as_posix()
            self._keep(source, relative)
            self._publish(source, wanted, source.relative_to(self.written / name).as_posix())

    def _keep(self, source: Path, name: str) -> None:
        target = self.kept / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        self.files[name] = describe(name, target.stat().st_size)

    def _publish(self, source: Path, wanted: Mapping[str, Any], name: str) -> None:
        place = render(wanted.get("destinationDirectoryTemplate", ""), self.known)
        target = (self.application_files / place.strip("/") / name).resolve()
        if not target.is_relative_to(self.application_files.resolve()):
            self.errors.append(
                ("OutputError", f"This lies outside of the application's files: {place}/{name}")
            )
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _files_under(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _fill(table: Path, source: Path, wanted: Mapping[str, Any]) -> None:
    """Add the rows of a CSV file to a data table, or put them in place of its rows."""
    columns, rows = _read(source)
    present, before = _read(table) if table.is_file() else (columns, [])
    if wanted.get("createMissingColumns"):
        present = [*present, *(column for column in columns if column not in present)]
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, present, extrasaction="ignore")
        writer.writeheader()
        writer.writerows([] if wanted.get("truncateExistingTable") else before)
        writer.writerows(rows)


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="", encoding="utf-8-sig") as source:
        rows = csv.DictReader(source)
        return list(rows.fieldnames or ()), list(rows)
