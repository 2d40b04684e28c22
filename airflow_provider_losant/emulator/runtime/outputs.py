# SPDX-License-Identifier: Apache-2.0
"""Collects the output files of an execution, as configured for the notebook."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_losant.emulator.runtime.templates import render
from airflow_provider_losant.emulator.state.identity import is_safe_name
from airflow_provider_losant.emulator.state.model import describe_file

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.timeline import File

RESULTS: Final = ("result.html", "result.ipynb", "result.log", "result.error.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCollector:
    """
    Collects the configured outputs of one execution.

    :param output_dir: the notebook's ``OUTPUT_DIR``.
    :param results: the folder of the ``result.*`` files that the runner has written.
    :param collected: the folder to copy outputs to; the execution log lists its files.
    :param application_files: the folder that stands for the application's files.
    :param tables: the folder that stands for the application's data tables.
    :param values: the values for templates.
    """

    output_dir: Path
    results: Path
    collected: Path
    application_files: Path
    tables: Path
    values: Mapping[str, Any]
    files: dict[str, File] = field(default_factory=dict)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def collect(self, output: Mapping[str, Any]) -> None:
        """Copy the files of one configured output, or add an error with the reason why not."""
        name = render(output.get("fileName") or output["directoryName"], self.values)
        if output["outputType"] == "executionResult" and name == "result.pdf":
            # It would need LaTeX or a browser on every machine that runs the emulator.
            self.errors.append(
                ("PdfNotProduced", "The emulator does not produce result.pdf; use result.html.")
            )
        elif not is_safe_name(name):
            self.errors.append(("OutputError", f"Invalid file name: {name!r}"))
        elif output["outputType"] == "directory":
            self._collect_directory(output, name)
        else:
            self._collect_file(output, name)

    def collect_results(self) -> None:
        """Copy all ``result.*`` files, also those that no output is configured for."""
        for name in RESULTS:
            if (self.results / name).is_file():
                self._copy(self.results / name, name)

    def _collect_file(self, output: Mapping[str, Any], name: str) -> None:
        is_result = output["outputType"] == "executionResult"
        source = (self.results if is_result else self.output_dir) / name
        if not source.is_file():
            # A missing result file is no error: result.error.log exists only if the notebook failed.
            if not is_result:
                self.errors.append(
                    ("MissingOutputError", f"The notebook did not write {name} to OUTPUT_DIR.")
                )
            return
        self._copy(source, name)
        if output["outputType"] == "dataTable":
            self._write_table(source, output, render(output["dataTableId"], self.values))
        elif "destinationFileNameTemplate" in output:
            self._publish(source, output, render(output["destinationFileNameTemplate"], self.values))

    def _write_table(self, source: Path, output: Mapping[str, Any], table_id: str) -> None:
        if is_safe_name(table_id):
            _add_rows(self.tables / f"{table_id}.csv", source, output)
        else:
            self.errors.append(("OutputError", f"Invalid data table id: {table_id!r}"))

    def _collect_directory(self, output: Mapping[str, Any], name: str) -> None:
        for source in _files_under(self.output_dir / name):
            relative = source.relative_to(self.output_dir).as_posix()
            self._copy(source, relative)
            self._publish(source, output, source.relative_to(self.output_dir / name).as_posix())

    def _copy(self, source: Path, name: str) -> None:
        target = self.collected / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        self.files[name] = describe_file(name, target.stat().st_size)

    def _publish(self, source: Path, output: Mapping[str, Any], name: str) -> None:
        """Copy a file to the application's files."""
        directory = render(output.get("destinationDirectoryTemplate", ""), self.values)
        target = (self.application_files / directory.strip("/") / name).resolve()
        if not target.is_relative_to(self.application_files.resolve()):
            self.errors.append(
                ("OutputError", f"The path is outside of the application's files: {directory}/{name}")
            )
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _files_under(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _add_rows(table: Path, source: Path, output: Mapping[str, Any]) -> None:
    """Append the rows of a CSV file to a data table, or replace the table's rows with them."""
    columns, rows = _read(source)
    table_columns, table_rows = _read(table) if table.is_file() else (columns, [])
    if output.get("createMissingColumns"):
        table_columns = [*table_columns, *(column for column in columns if column not in table_columns)]
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, table_columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows([] if output.get("truncateExistingTable") else table_rows)
        writer.writerows(rows)


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="", encoding="utf-8-sig") as source:
        rows = csv.DictReader(source)
        return list(rows.fieldnames or ()), list(rows)
