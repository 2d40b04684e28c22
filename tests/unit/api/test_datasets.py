# SPDX-License-Identifier: Apache-2.0
"""The dataset names of the inputs and outputs of an execution."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_losant.api.model import Notebook
from airflow_provider_losant.openlineage.datasets import (
    Dataset,
    input_datasets,
    namespace,
    output_datasets,
    storage_dataset,
)
from tests.support.factories import APPLICATION_ID, NOTEBOOK_ID

HOST = "https://api.losant.com"
TABLE, DEVICE, OTHER_DEVICE = (
    "5c782b8d4f3a8e51c1db42e5",
    "5c782b8d4f3a8e51c1db42e6",
    "5c782b8d4f3a8e51c1db42e7",
)
FILES = f"{APPLICATION_ID}/notebooks/{NOTEBOOK_ID}"


def result(inputs: dict[str, int] | None = None, outputs: dict[str, int] | None = None) -> dict[str, Any]:
    return {
        "application_id": APPLICATION_ID,
        "notebook_id": NOTEBOOK_ID,
        "inputs": {name: {"size": size} for name, size in (inputs or {}).items()},
        "outputs": {name: {"size": size} for name, size in (outputs or {}).items()},
    }


def notebook(inputs: Any = (), outputs: Any = ()) -> Notebook:
    return Notebook(
        id=NOTEBOOK_ID,
        application_id=APPLICATION_ID,
        name="Report",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )


def names(datasets: list[Dataset]) -> list[str]:
    return [it.name.removeprefix(f"{APPLICATION_ID}/") for it in datasets]


@pytest.mark.parametrize(
    ("given", "sources"),
    [
        ({"inputType": "dataTable", "dataTableId": TABLE.upper()}, [f"data-tables/{TABLE}"]),
        ({"inputType": "eventData"}, ["events"]),
        ({"inputType": "applicationFile", "filePath": "/rates/eur.csv"}, ["files/rates/eur.csv"]),
        (
            {"inputType": "applicationFile", "filePath": "/rates/eur.csv", "private": True},
            ["private-files/rates/eur.csv"],
        ),
        (
            {"inputType": "deviceData", "deviceIds": [DEVICE, OTHER_DEVICE]},
            [f"devices/{DEVICE}", f"devices/{OTHER_DEVICE}"],
        ),
        ({"inputType": "deviceMetadata", "deviceTags": [{"key": "site"}]}, ["devices"]),
        ({"inputType": "deviceConnectionHistory", "deviceIds": ["{{device}}"]}, ["devices"]),
        ({"inputType": "deviceData", "deviceIds": [DEVICE], "deviceTags": [{"key": "site"}]}, ["devices"]),
    ],
)
def test_an_input_is_named_after_its_source(given: dict[str, Any], sources: list[str]) -> None:
    configured = {"fileName": "in.csv", **given}

    assert names(input_datasets(result({"in.csv": 7}), notebook([configured]), HOST)) == sources


@pytest.mark.parametrize(
    "given",
    [
        {"inputType": "dataTable", "dataTableId": "{{table}}"},
        {"inputType": "applicationFile", "filePath": "/{{site}}.csv"},
        {"inputType": "externalUrl", "sourceUrl": "https://u:p@files.example/secret/in.csv?sig=abc"},
    ],
)
def test_an_input_with_an_unknown_source_is_a_file_of_the_notebook(given: dict[str, Any]) -> None:
    configured = {"fileName": "in.csv", **given}

    assert input_datasets(result({"in.csv": 7}), notebook([configured]), HOST) == [
        Dataset(namespace="losant://api.losant.com", name=f"{FILES}/inputs/in.csv", size=7)
    ]


def test_without_the_notebook_inputs_are_files() -> None:
    assert names(input_datasets(result({"in.csv": 7}), None, HOST)) == [
        f"notebooks/{NOTEBOOK_ID}/inputs/in.csv"
    ]


def test_a_file_is_matched_by_the_template_of_its_name() -> None:
    tables = [
        {"inputType": "dataTable", "fileName": "{{site}}-meters.csv", "dataTableId": TABLE},
        {"inputType": "dataTable", "fileName": "rates.csv", "dataTableId": OTHER_DEVICE},
    ]

    read = input_datasets(result({"north-meters.csv": 7, "rates.csv": 8}), notebook(tables), HOST)

    assert names(read) == [f"data-tables/{TABLE}", f"data-tables/{OTHER_DEVICE}"]


def test_a_file_that_matches_two_templates_has_no_source() -> None:
    tables = [
        {"inputType": "dataTable", "fileName": "{{a}}.csv", "dataTableId": TABLE},
        {"inputType": "dataTable", "fileName": "{{b}}.csv", "dataTableId": OTHER_DEVICE},
    ]

    assert names(input_datasets(result({"in.csv": 7}), notebook(tables), HOST)) == [
        f"notebooks/{NOTEBOOK_ID}/inputs/in.csv"
    ]


def test_a_source_of_several_files_is_one_dataset_with_the_total_read() -> None:
    inputs = [{"inputType": "deviceData", "fileName": name, "deviceIds": [DEVICE]} for name in ("a", "b")]

    assert input_datasets(result({"a": 7, "b": 8}), notebook(inputs), HOST) == [
        Dataset(namespace="losant://api.losant.com", name=f"{APPLICATION_ID}/devices/{DEVICE}", size=15)
    ]


def test_a_file_of_several_devices_has_no_row_count_for_each_device() -> None:
    inputs = [{"inputType": "deviceData", "fileName": "a", "deviceIds": [DEVICE, OTHER_DEVICE]}]

    assert [it.size for it in input_datasets(result({"a": 7}), notebook(inputs), HOST)] == [None, None]


def test_an_output_is_named_like_its_asset_and_its_destination() -> None:
    outputs = [
        {"outputType": "dataTable", "fileName": "kwh per/hour.csv", "dataTableId": TABLE},
        {"outputType": "executionResult", "fileName": "result.html"},
        {
            "outputType": "file",
            "fileName": "chart.png",
            "destinationDirectoryTemplate": "/charts/",
            "destinationFileNameTemplate": "latest.png",
        },
        {"outputType": "directory", "directoryName": "raw", "destinationDirectoryTemplate": "/{{site}}"},
        {"outputType": "temporaryUrl", "fileName": "out.csv"},
    ]
    ended = result(outputs={"kwh per/hour.csv": 7, "result.html": 8})

    assert names(output_datasets(ended, notebook(outputs=outputs), HOST, is_success=True)) == [
        f"notebooks/{NOTEBOOK_ID}/outputs/kwh%20per%2Fhour.csv",
        f"notebooks/{NOTEBOOK_ID}/outputs/result.html",
        f"data-tables/{TABLE}",
        "files/charts/latest.png",
    ]


def test_a_failed_execution_has_no_output_destinations() -> None:
    table = {"outputType": "dataTable", "fileName": "out.csv", "dataTableId": TABLE}
    ended = result(outputs={"result.error.log": 9})

    assert names(output_datasets(ended, notebook(outputs=[table]), HOST, is_success=False)) == [
        f"notebooks/{NOTEBOOK_ID}/outputs/result.error.log"
    ]


@pytest.mark.parametrize(
    "host", ["api.losant.com", "https://api.losant.com", "https://API.Losant.com.:443/", "api.losant.com:443"]
)
def test_each_spelling_of_the_host_gives_one_namespace(host: str) -> None:
    assert namespace(host) == "losant://api.losant.com"


@pytest.mark.parametrize(
    ("path", "where", "name"),
    [
        ("s3://bucket/reports/out.csv", "s3://bucket", "reports/out.csv"),
        ("s3a://aws_default@bucket/reports/out.csv", "s3://bucket", "reports/out.csv"),
        ("gcs://bucket/out.csv", "gs://bucket", "out.csv"),
        ("file:///srv/reports/out.csv", "file", "/srv/reports/out.csv"),
        ("/srv/reports/out.csv", "file", "/srv/reports/out.csv"),
        ("/data/run #7/a?b=%20 ü.csv", "file", "/data/run #7/a?b=%20 ü.csv"),
        ("file:///data/run #7/a?b.csv", "file", "/data/run #7/a?b.csv"),
        ("local:///data/100%.csv", "file", "/data/100%.csv"),
        ("file://conn_id@/data/a.csv", "file", "/data/a.csv"),
        ("file://server/data/a#b.csv", "file://server", "/data/a#b.csv"),
        ("/data/copy of s3://bucket/a.csv", "file", "/data/copy of s3://bucket/a.csv"),
        (r"C:\reports\run #7\out.csv", "file", r"C:\reports\run #7\out.csv"),
        ("s3://bucket/a b#c?d%2Fe/ü.csv", "s3://bucket", "a b#c?d%2Fe/ü.csv"),
        ("s3://aws@bucket/run #7@home.csv", "s3://bucket", "run #7@home.csv"),
        ("S3://bucket/line\nend.csv", "s3://bucket", "line\nend.csv"),
        ("gs://bucket", "gs://bucket", ""),
    ],
)
def test_a_saved_file_is_named_as_openlineage_names_it(path: str, where: str, name: str) -> None:
    assert storage_dataset(path, 7) == Dataset(namespace=where, name=name, size=7)
