# SPDX-License-Identifier: Apache-2.0
"""Prepares the input files of an execution from sample data."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from airflow_provider_losant.emulator.runtime.queries import Predicate, QueryCompiler, QueryError
from airflow_provider_losant.emulator.runtime.templates import render, template_values
from airflow_provider_losant.emulator.state.identity import is_safe_name
from airflow_provider_losant.emulator.state.model import Notebook, describe_file
from airflow_provider_losant.emulator.state.timestamps import format_timestamp, parse_timestamp

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.timeline import Execution, File

# Losant's own columns; every other column of a device data sample is a tag or an attribute.
_LOSANT_COLUMNS: Final = ("Timestamp", "ISO Date", "Device ID", "Device Name", "time")
_TIME_SERIES: Final = ("deviceData", "deviceConnectionHistory")
_DEVICE_INPUTS: Final = (*_TIME_SERIES, "deviceMetadata")
_DAY: Final = 86_400
# What queries call the columns of device data.
_DEVICE_FIELDS: Final = {"id": "Device ID", "name": "Device Name"}

Row = dict[str, str]


class InputError(Exception):
    """Raised when an input file cannot be prepared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _DeviceFilter:
    """The devices that an input is configured for; without ids and tags, all devices."""

    ids: tuple[str, ...]
    tags: tuple[tuple[str | None, str | None], ...]

    @classmethod
    def from_input(cls, config: Mapping[str, Any], values: Mapping[str, Any]) -> Self:
        def part(tag: Mapping[str, str], name: str) -> str | None:
            return render(tag[name], values) if name in tag else None

        return cls(
            ids=tuple(render(device, values).lower() for device in config.get("deviceIds", ())),
            tags=tuple((part(tag, "key"), part(tag, "value")) for tag in config.get("deviceTags", ())),
        )

    def includes(self, row: Row) -> bool:
        if not self.ids and not self.tags:
            return True
        return row.get("Device ID", "").lower() in self.ids or any(_has_tag(row, *tag) for tag in self.tags)


def _has_tag(row: Row, key: str | None, value: str | None) -> bool:
    if key is None:
        return value in row.values()
    return bool(row.get(key)) if value is None else row.get(key) == value


def prepare_inputs(
    notebook: Notebook, execution: Execution, folder: Path, tables: Path, *, repeat_samples: bool = False
) -> dict[str, File]:
    """
    Write the input files of an execution; returns them by name.

    :param folder: where to write them; the notebook's ``INPUT_DIR``.
    :param tables: the folder of the data tables that earlier executions have written.
    :param repeat_samples: whether samples of device data repeat.
    :raises InputError: if there is no sample for an input, or a template gives an invalid name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if execution.template_context is not None:
        (folder / "context.json").write_text(execution.template_context, encoding="utf-8")
    values = template_values(notebook, execution)
    files: dict[str, File] = {}
    for config in notebook.inputs:
        name = render(config["fileName"], values)
        if not is_safe_name(name):
            raise InputError(f"The template {config['fileName']} gives an invalid file name: {name!r}")
        table = render(config.get("dataTableId", "none"), values)
        if not is_safe_name(table):
            raise InputError(f"Invalid data table id: {table!r}")
        sample = _sample(notebook, config, name, tables / f"{table}.csv")
        try:
            _write(config, values, execution.relative_to, sample, folder / name, repeat=repeat_samples)
        except QueryError as error:
            raise InputError(f"The emulator cannot evaluate the queryJson of {name}: {error}.") from error
        files[name] = describe_file(name, (folder / name).stat().st_size)
    return files


def _sample(notebook: Notebook, config: Mapping[str, Any], name: str, table: Path) -> Path:
    for candidate in (notebook.samples.get(name), notebook.samples.get(config["fileName"]), table):
        if candidate is not None and candidate.is_file():
            return candidate
    raise InputError(f"The emulator has no sample data for the input file {name}; add one to `samples`.")


def _write(
    config: Mapping[str, Any],
    values: Mapping[str, Any],
    relative_to: float,
    sample: Path,
    path: Path,
    *,
    repeat: bool,
) -> None:
    query = _query(config, values)
    is_csv, is_of_devices = sample.suffix == ".csv", config["inputType"] in _DEVICE_INPUTS
    if not query and not (is_csv and is_of_devices):
        shutil.copyfile(sample, path)
    elif is_csv:
        with sample.open(newline="", encoding="utf-8-sig") as source, path.open("w", newline="") as target:
            rows = csv.DictReader(source)
            columns = rows.fieldnames or ()
            matches = _compile(query, config, columns)
            selected = (
                _select_rows(config, values, relative_to, rows, repeat=repeat) if is_of_devices else rows
            )
            writer = csv.DictWriter(target, _select_columns(config, values, columns), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in selected if matches(row))
    else:
        objects = _objects(sample)
        if objects:
            matches = _compile(query, config, {column for row in objects for column in row})
            objects = [row for row in objects if matches(row)]
        path.write_text(json.dumps(objects), encoding="utf-8")


def _query(config: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """
    Return the query of an input; empty if it has none.

    :raises QueryError: if it is not JSON, or if Losant does not document what it means.
    """
    try:
        query = json.loads(render(config.get("queryJson", ""), values) or "{}")
    except (ValueError, RecursionError) as error:
        raise QueryError("it is not JSON after its templates were filled in") from error
    if query and (config.get("deviceIds") or config.get("deviceTags")):
        raise QueryError("the emulator does not combine it with deviceIds and deviceTags")
    return query


def _compile(query: Any, config: Mapping[str, Any], columns: Collection[str]) -> Predicate:
    is_of_devices = config["inputType"] in _DEVICE_INPUTS
    ignored = (*_LOSANT_COLUMNS, *config.get("attributes", ()))
    compiler = QueryCompiler(
        columns=columns,
        aliases=_DEVICE_FIELDS if is_of_devices else {},
        tags="tags" if is_of_devices else {"eventData": "eventTags"}.get(config["inputType"], ""),
        tag_columns=[column for column in columns if column not in ignored],
    )
    return compiler.compile(query)


def _objects(sample: Path) -> list[dict[str, Any]]:
    """Read a sample that is a JSON list of objects."""
    try:
        rows = json.loads(sample.read_text(encoding="utf-8"))
    except ValueError:
        rows = None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise QueryError("the sample is neither a .csv file nor a JSON list of objects")
    return rows


def _select_columns(
    config: Mapping[str, Any], values: Mapping[str, Any], columns: Sequence[str]
) -> list[str]:
    attributes = config.get("attributes", ())
    if not attributes:
        return list(columns)
    tags = [render(tag["key"], values) for tag in config.get("deviceTags", ()) if "key" in tag]
    return [column for column in columns if column in (*_LOSANT_COLUMNS, *tags, *attributes)]


def _select_rows(
    config: Mapping[str, Any],
    values: Mapping[str, Any],
    relative_to: float,
    rows: Iterable[Row],
    *,
    repeat: bool,
) -> Iterator[Row]:
    devices = _DeviceFilter.from_input(config, values)
    is_time_series = config["inputType"] in _TIME_SERIES
    start = relative_to + config.get("start", 0) / 1000
    end = relative_to + config.get("end", 0) / 1000
    for row in _repeated(list(rows), start, end) if repeat and is_time_series else rows:
        if devices.includes(row) and (not is_time_series or start <= _timestamp(row) < end):
            yield row


def _repeated(rows: Sequence[Row], start: float, end: float) -> list[Row]:
    """Return the rows between two times, in order, as if all rows repeated after the days that they cover."""
    if not rows:
        return []
    timestamps = [_timestamp(row) for row in rows]
    period = math.ceil((max(timestamps) - min(timestamps) + 1) / _DAY) * _DAY
    found: list[tuple[float, Row]] = []
    for row, timestamp in zip(rows, timestamps, strict=True):
        at = timestamp + math.ceil((start - timestamp) / period) * period
        while at < end:
            found.append((at, _moved(row, at)))
            at += period
    return [row for _, row in sorted(found, key=lambda it: it[0])]


def _moved(row: Row, timestamp: float) -> Row:
    """Return a row as of another time, in the columns that it has."""
    iso = format_timestamp(timestamp)
    times = {"Timestamp": str(round(timestamp * 1000)), "time": iso, "ISO Date": iso}
    return row | {column: time for column, time in times.items() if row.get(column)}


def _timestamp(row: Row) -> float:
    text = row.get("Timestamp") or row.get("time") or row.get("ISO Date") or ""
    if text.lstrip("-").isdecimal():
        return int(text) / 1000
    timestamp = parse_timestamp(text)
    if timestamp is None:
        raise InputError(
            "A device data sample needs a column Timestamp (epoch milliseconds) or time (ISO-8601)."
        )
    return timestamp
