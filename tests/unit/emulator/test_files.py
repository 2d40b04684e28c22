# SPDX-License-Identifier: Apache-2.0
"""Input and output files of an execution, and the data folder, without a kernel."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.emulator import Emulator
from airflow_provider_losant.emulator.runtime.inputs import InputError, prepare_inputs
from airflow_provider_losant.emulator.runtime.outputs import OutputCollector
from airflow_provider_losant.emulator.runtime.templates import render, template_values
from airflow_provider_losant.emulator.state.identity import Token
from airflow_provider_losant.emulator.state.model import Application, Entity, Notebook
from airflow_provider_losant.emulator.state.storage import Storage
from airflow_provider_losant.emulator.state.timeline import Execution, File, Script

MIDNIGHT = 1_769_904_000.0  # 2026-02-01T00:00:00Z
DAY = 86_400
NORTH, SOUTH = "575ecf887ae143cd83dc4aa2", "575ecf887ae143cd83dc4aa3"
NOTEBOOK = Notebook(id="5" * 24, application_id="6" * 24, name="Energy", created_at=0, updated_at=0)
EXECUTION = Execution(
    id="7" * 24,
    notebook_id=NOTEBOOK.id,
    application_id=NOTEBOOK.application_id,
    queued_at=MIDNIGHT + 60,
    relative_to=MIDNIGHT,
    max_minutes=5,
    image_version="v4",
    source_id="8" * 24,
    template_context=json.dumps({"site": "north", "device": NORTH}),
)
LAST_HOUR = {"inputType": "deviceData", "fileName": "energy.csv", "start": -3_600_000, "end": 0}


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.csv"
    with path.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["Timestamp", "Device ID", "site", "kwh", "volts"])
        for quarter in range(-8, 4):
            at = int((MIDNIGHT + quarter * 900) * 1000)
            writer.writerow([at, NORTH, "north", quarter, 230])
            writer.writerow([at, SOUTH, "south", quarter, 231])
    return path


def input_rows(
    tmp_path: Path,
    sample: Path,
    config: Mapping[str, Any],
    *,
    execution: Execution = EXECUTION,
    repeat_samples: bool = False,
) -> list[dict[str, str]]:
    notebook = replace(NOTEBOOK, inputs=[config], samples={"energy.csv": sample})
    prepare_inputs(notebook, execution, tmp_path / "in", tmp_path / "tables", repeat_samples=repeat_samples)
    with (tmp_path / "in" / "energy.csv").open(newline="") as source:
        return list(csv.DictReader(source))


def test_device_data_covers_the_window_before_the_query_time(tmp_path: Path, sample: Path) -> None:
    rows = input_rows(tmp_path, sample, LAST_HOUR)

    assert [row["kwh"] for row in rows if row["site"] == "north"] == ["-4", "-3", "-2", "-1"]


@pytest.mark.parametrize("days", [-400, -1, 0, 1, 300.25])
def test_a_repeated_sample_has_readings_at_every_query_time(
    tmp_path: Path, sample: Path, days: float
) -> None:
    late = replace(EXECUTION, relative_to=MIDNIGHT + days * DAY)
    two_days = {**LAST_HOUR, "start": -2 * DAY * 1000}

    rows = input_rows(tmp_path, sample, two_days, execution=late, repeat_samples=True)

    at = [int(row["Timestamp"]) / 1000 for row in rows]
    assert at == sorted(at)
    assert all(late.relative_to - 2 * DAY <= it < late.relative_to for it in at)
    of_day = [((it - MIDNIGHT) % DAY, row["kwh"]) for it, row in zip(at, rows, strict=True)]
    assert sorted(of_day) == sorted(
        [(quarter * 900 % DAY, str(quarter)) for quarter in range(-8, 4)] * 2 * 2  # sites, days
    )


def test_a_repeated_sample_is_itself_within_its_own_time(tmp_path: Path, sample: Path) -> None:
    assert input_rows(tmp_path, sample, LAST_HOUR, repeat_samples=True) == input_rows(
        tmp_path, sample, LAST_HOUR
    )


def test_a_repeated_sample_may_have_iso_dates_or_no_rows(tmp_path: Path) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text("time,ISO Date,kwh\n2026-01-31T23:30:00Z,,7\n")
    later = replace(EXECUTION, relative_to=MIDNIGHT + 5 * DAY)
    empty = tmp_path / "empty.csv"
    empty.write_text("time,kwh\n")

    (row,) = input_rows(tmp_path, sample, LAST_HOUR, execution=later, repeat_samples=True)

    assert row == {"time": "2026-02-05T23:30:00.000Z", "ISO Date": "", "kwh": "7"}
    assert input_rows(tmp_path, empty, LAST_HOUR, repeat_samples=True) == []


@pytest.mark.parametrize(
    "choice",
    [
        {"deviceIds": ["{{device}}"]},
        {"deviceTags": [{"key": "site", "value": "{{site}}"}]},
        {"deviceTags": [{"value": "north"}]},
        {"deviceIds": [SOUTH.replace("3", "9")], "deviceTags": [{"key": "site", "value": "north"}]},
    ],
)
def test_device_data_is_of_the_configured_devices(
    tmp_path: Path, sample: Path, choice: dict[str, Any]
) -> None:
    assert {row["Device ID"] for row in input_rows(tmp_path, sample, {**LAST_HOUR, **choice})} == {NORTH}


def test_a_tag_without_a_value_means_any_value(tmp_path: Path, sample: Path) -> None:
    rows = input_rows(tmp_path, sample, {**LAST_HOUR, "deviceTags": [{"key": "site"}]})

    assert {row["site"] for row in rows} == {"north", "south"}


def test_only_the_configured_attributes_are_columns(tmp_path: Path, sample: Path) -> None:
    rows = input_rows(tmp_path, sample, {**LAST_HOUR, "attributes": ["kwh"]})

    assert list(rows[0]) == ["Timestamp", "Device ID", "kwh"]


def test_the_template_context_is_in_the_input_folder(tmp_path: Path, sample: Path) -> None:
    input_rows(tmp_path, sample, LAST_HOUR)

    assert json.loads((tmp_path / "in" / "context.json").read_text()) == {"site": "north", "device": NORTH}


def test_a_missing_sample_is_reported_with_the_file_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no sample data for the input file energy\.csv"):
        prepare_inputs(replace(NOTEBOOK, inputs=[LAST_HOUR]), EXECUTION, tmp_path, tmp_path)


@pytest.mark.parametrize("text", ["", "yesterday"])
def test_a_sample_of_device_data_without_times_is_refused(tmp_path: Path, text: str) -> None:
    sample = tmp_path / "sample.csv"
    sample.write_text(f"time,kwh\n{text},7\n")

    with pytest.raises(InputError, match="needs a column Timestamp"):
        input_rows(tmp_path, sample, LAST_HOUR)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({**LAST_HOUR, "fileName": "{{site}}"}, "gives an invalid file name"),
        ({"inputType": "dataTable", "fileName": "t.csv", "dataTableId": "{{site}}"}, "Invalid data table id"),
    ],
)
def test_a_template_cannot_read_or_write_outside_of_the_folder(
    tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    malicious = replace(EXECUTION, template_context='{"site": "../../x"}')

    with pytest.raises(InputError, match=reason):
        prepare_inputs(replace(NOTEBOOK, inputs=[config]), malicious, tmp_path, tmp_path)


def test_templates_can_use_the_context_the_notebook_and_the_execution() -> None:
    values = template_values(NOTEBOOK, replace(EXECUTION, template_context='{"a": {"b": "x & y"}}'))

    assert render("{{a.b}} {{{a.b}}} {{notebook.name}} {{execution.runStartedAt}}", values) == (
        "x & y x & y Energy 2026-02-01T00:01:00.000Z"
    )


def test_a_context_that_is_not_an_object_has_no_values() -> None:
    assert (
        render("[{{site}}]", template_values(NOTEBOOK, replace(EXECUTION, template_context="plain"))) == "[]"
    )


@pytest.fixture
def collector(tmp_path: Path) -> OutputCollector:
    for name in ("output/plots", "results"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "output" / "out.csv").write_text("site,kwh\nnorth,4\n")
    (tmp_path / "output" / "plots" / "a.png").write_bytes(b"png")
    (tmp_path / "results" / "result.html").write_text("<html>")
    return OutputCollector(
        output_dir=tmp_path / "output",
        results=tmp_path / "results",
        collected=tmp_path / "collected",
        application_files=tmp_path / "files",
        tables=tmp_path / "tables",
        values=template_values(NOTEBOOK, EXECUTION),
    )


def test_only_configured_outputs_are_kept(collector: OutputCollector) -> None:
    collector.collect({"outputType": "executionResult", "fileName": "result.html"})
    collector.collect({"outputType": "executionResult", "fileName": "result.error.log"})
    collector.collect({"outputType": "temporaryUrl", "fileName": "out.csv"})

    assert collector.files == {
        "result.html": File(size=6, content_type="text/html"),
        "out.csv": File(size=17, content_type="text/csv"),
    }
    assert collector.errors == []


def test_all_result_files_can_be_kept_without_being_configured(
    collector: OutputCollector, tmp_path: Path
) -> None:
    (tmp_path / "results" / "result.log").write_text("done")

    collector.collect_results()

    assert set(collector.files) == {"result.html", "result.log"}
    assert collector.errors == []


def test_a_missing_output_and_a_pdf_are_reported(collector: OutputCollector) -> None:
    collector.collect({"outputType": "temporaryUrl", "fileName": "missing.csv"})
    collector.collect({"outputType": "executionResult", "fileName": "result.pdf"})

    assert [name for name, _ in collector.errors] == ["MissingOutputError", "PdfNotProduced"]


def test_a_pdf_that_the_notebook_has_written_itself_is_an_output_like_any_other(
    collector: OutputCollector, tmp_path: Path
) -> None:
    (tmp_path / "output" / "result.pdf").write_bytes(b"%PDF-")

    collector.collect({"outputType": "temporaryUrl", "fileName": "result.pdf"})

    assert collector.files == {"result.pdf": File(size=5, content_type="application/pdf")}
    assert collector.errors == []


def test_files_and_directories_are_copied_to_the_application_files(
    collector: OutputCollector, tmp_path: Path
) -> None:
    destination = {"destinationDirectoryTemplate": "/{{notebook.name}}/{{site}}"}
    collector.collect(
        {"outputType": "file", "fileName": "out.csv", "destinationFileNameTemplate": "day.csv", **destination}
    )
    collector.collect({"outputType": "directory", "directoryName": "plots", **destination})

    assert (tmp_path / "files" / "Energy" / "north" / "day.csv").read_text() == "site,kwh\nnorth,4\n"
    assert (tmp_path / "files" / "Energy" / "north" / "a.png").is_file()
    assert "plots/a.png" in collector.files


@pytest.mark.parametrize(
    "output",
    [
        {"outputType": "file", "fileName": "out.csv", "destinationFileNameTemplate": "../../x"},
        {"outputType": "temporaryUrl", "fileName": "../../x"},
        {"outputType": "directory", "directoryName": "../../x"},
    ],
)
def test_an_output_cannot_be_written_outside_of_the_application_files(
    collector: OutputCollector, tmp_path: Path, output: dict[str, Any]
) -> None:
    collector.collect(output)

    assert [name for name, _ in collector.errors] == ["OutputError"]
    assert not (tmp_path.parent / "x").exists()


def test_rows_are_added_to_a_data_table_or_replace_its_rows(
    collector: OutputCollector, tmp_path: Path
) -> None:
    table = tmp_path / "tables" / f"{NORTH}.csv"
    output = {"outputType": "dataTable", "fileName": "out.csv", "dataTableId": "{{device}}"}

    collector.collect(output)
    (tmp_path / "output" / "out.csv").write_text("site,cost\nsouth,9\n")
    collector.collect({**output, "createMissingColumns": True})
    after_adding = table.read_text().splitlines()
    collector.collect({**output, "truncateExistingTable": True})

    assert after_adding == ["site,kwh,cost", "north,4,", "south,,9"]
    assert table.read_text().splitlines() == ["site,kwh,cost", "south,,9"]


def test_saved_entities_are_loaded_as_they_were(tmp_path: Path) -> None:
    entities: list[Entity] = [
        Application(id="6" * 24, name="Plant", created_at=1.5),
        Token(id="8" * 24, text="t.o.k", application_id="6" * 24, scopes=("all.Application",)),
        replace(
            NOTEBOOK,
            samples={"a": tmp_path},
            script=Script(files={"x": b"\xff"}),
            inputs=[LAST_HOUR],
            outputs=[],
        ),
        replace(EXECUTION, outputs={"a": File(size=1, content_type="b")}, errors=(("E", "m"),)),
    ]
    for entity in entities:
        Storage(tmp_path).save(entity)

    assert list(Storage(tmp_path).load()) == entities
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.json")} == {0o600}


def test_a_notebook_without_samples_gets_those_of_its_application(tmp_path: Path) -> None:
    with Emulator() as losant:
        other_application = losant.add_application()
        losant.add_notebook("Seeded", samples={"a.csv": tmp_path / "a", "b.csv": tmp_path / "b"})
        losant.add_notebook("Foreign", samples={"c.csv": tmp_path / "c"}, application_id=other_application)
        notebook_id = losant.add_notebook("Deployed", samples={"b.csv": tmp_path / "own"})

        samples = losant.backend.samples(losant.backend.notebooks[notebook_id])

    assert samples == {"a.csv": tmp_path / "a", "b.csv": tmp_path / "own"}
