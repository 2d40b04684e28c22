# SPDX-License-Identifier: Apache-2.0
"""The input files of an execution, made from sample data."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_provider_losant.emulator.runtime.templates import render, values
from airflow_provider_losant.emulator.state.identity import is_safe_name
from airflow_provider_losant.emulator.state.model import Notebook, describe
from airflow_provider_losant.emulator.state.timestamps import read_text

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.timeline import Execution, File

# Losant's own columns; every other column of a device data sample is a tag or an attribute.
_COLUMNS: Final = ("Timestamp", "ISO Date", "Device ID", "Device Name", "time")
_TIMED: Final = ("deviceData", "deviceConnectionHistory")
_OF_DEVICES: Final = (*_TIMED, "deviceMetadata")

Row = dict[str, str]


class InputError(Exception):
    """Says why an input file could not be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Devices:
    """Which devices an input asks for; without ids and tags, all of them."""

    ids: tuple[str, ...]
    tags: tuple[tuple[str | None, str | None], ...]

    @classmethod
    def of(cls, wanted: Mapping[str, Any], known: Mapping[str, Any]) -> Self:
        def said(tag: Mapping[str, str], part: str) -> str | None:
            return render(tag[part], known) if part in tag else None

        return cls(
            ids=tuple(render(device, known).lower() for device in wanted.get("deviceIds", ())),
            tags=tuple((said(tag, "key"), said(tag, "value")) for tag in wanted.get("deviceTags", ())),
        )

    def include(self, row: Row) -> bool:
        if not self.ids and not self.tags:
            return True
        return row.get("Device ID", "").lower() in self.ids or any(_has(row, *tag) for tag in self.tags)


def _has(row: Row, key: str | None, value: str | None) -> bool:
    if key is None:
        return value in row.values()
    return bool(row.get(key)) if value is None else row.get(key) == value


def gather(notebook: Notebook, execution: Execution, folder: Path, tables: Path) -> dict[str, File]:
    """
    Write the input files of an execution.

    :param folder: where to write them; it becomes ``INPUT_DIR``.
    :param tables: where earlier executions have left data tables.
    :raises InputError: when there is no sample to make a file from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if execution.template_context is not None:
        (folder / "context.json").write_text(execution.template_context, encoding="utf-8")
    known = values(notebook, execution)
    made: dict[str, File] = {}
    for wanted in notebook.inputs:
        name = render(wanted["fileName"], known)
        if not is_safe_name(name):
            raise InputError(f"The template {wanted['fileName']} gives no file name: {name!r}")
        table = render(wanted.get("dataTableId", "none"), known)
        if not is_safe_name(table):
            raise InputError(f"This is no data table: {table!r}")
        sample = _sample(notebook, wanted, name, tables / f"{table}.csv")
        _make(wanted, known, execution.relative_to, sample, folder / name)
        made[name] = describe(name, (folder / name).stat().st_size)
    return made


def _sample(notebook: Notebook, wanted: Mapping[str, Any], name: str, table: Path) -> Path:
    for candidate in (notebook.samples.get(name), notebook.samples.get(wanted["fileName"]), table):
        if candidate is not None and candidate.is_file():
            return candidate
    raise InputError(f"The emulator has no sample data for the input file {name}; name one in `samples`.")


def _make(
    wanted: Mapping[str, Any], known: Mapping[str, Any], relative_to: float, sample: Path, made: Path
) -> None:
    if wanted["inputType"] not in _OF_DEVICES or sample.suffix != ".csv":
        shutil.copyfile(sample, made)
        return
    with sample.open(newline="", encoding="utf-8-sig") as source, made.open("w", newline="") as target:
        rows = csv.DictReader(source)
        columns = _columns(wanted, known, rows.fieldnames or ())
        writer = csv.DictWriter(target, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(_chosen(wanted, known, relative_to, rows))


def _columns(wanted: Mapping[str, Any], known: Mapping[str, Any], present: Sequence[str]) -> list[str]:
    attributes = wanted.get("attributes", ())
    if not attributes:
        return list(present)
    tags = [render(tag["key"], known) for tag in wanted.get("deviceTags", ()) if "key" in tag]
    return [column for column in present if column in (*_COLUMNS, *tags, *attributes)]


def _chosen(
    wanted: Mapping[str, Any], known: Mapping[str, Any], relative_to: float, rows: csv.DictReader[str]
) -> Iterator[Row]:
    devices = _Devices.of(wanted, known)
    timed = wanted["inputType"] in _TIMED
    first = relative_to + wanted.get("start", 0) / 1000
    last = relative_to + wanted.get("end", 0) / 1000
    for row in rows:
        if devices.include(row) and (not timed or first <= _instant(row) < last):
            yield row


def _instant(row: Row) -> float:
    written = row.get("Timestamp") or row.get("time") or row.get("ISO Date") or ""
    if written.lstrip("-").isdecimal():
        return int(written) / 1000
    at = read_text(written)
    if at is None:
        raise InputError(
            "A device data sample needs a column Timestamp (epoch milliseconds) or time (ISO-8601)."
        )
    return at
