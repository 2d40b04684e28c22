# SPDX-License-Identifier: Apache-2.0
"""Notebooks are deployed from a CI pipeline by one command, which needs no Airflow database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant import deploy
from airflow_provider_losant.emulator import Fault
from tests.provider.conftest import operations
from tests.provider.test_upload import OUTPUTS, source
from tests.support.airflow_connection import connection

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

pytestmark = pytest.mark.usefixtures("losant_connection")

READS = {"notebooks.get", "notebook.get"}
AIRFLOW_LOG = re.compile(r"^\[?20\d\d-.*\n", re.MULTILINE)
"""What Airflow logs to the same stream; as a process, the command sets the level before Airflow starts."""


class Pipeline:
    """The repository of a pipeline, and the command that it runs."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        self.errors = ""
        """What the last run printed to standard error."""

    def save(self, *cells: str, **settings: Any) -> None:
        (self.folder / "report.ipynb").write_text(source(*cells))
        scripted = {"name": "Local only", "script": {"notebook": 1}}
        notebook = {"name": "Report", "file": "report.ipynb", "maxRunMinutes": 5, **settings}
        content = {"application": {"name": "Plant"}, "notebooks": [notebook, scripted]}
        (self.folder / "losant.json").write_text(json.dumps(content))

    def run(self, *options: str) -> str:
        assert deploy.main([str(self.folder / "losant.json"), *options]) == 0
        printed = self._capsys.readouterr()
        self.errors = AIRFLOW_LOG.sub("", printed.err)
        return AIRFLOW_LOG.sub("", printed.out)

    def fail(self, *options: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            deploy.main([str(self.folder / "losant.json"), *options])
        assert stopped.value.code == 1
        return self._capsys.readouterr().err


@pytest.fixture
def pipeline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Pipeline:
    its = Pipeline(tmp_path, capsys)
    its.save("# Report", outputs=OUTPUTS)
    return its


def test_a_notebook_is_created_once_and_then_does_not_differ(losant: Emulator, pipeline: Pipeline) -> None:
    assert pipeline.run("--create") == "Report: create it, upload report.ipynb\n"
    (made,) = losant.backend.notebooks.values()
    assert (made.name, list(made.outputs)) == ("Report", OUTPUTS)
    assert losant.backend.notebook_path(made.id).read_text() == source("# Report")

    losant.clear_requests()
    assert pipeline.run("--create") == "Report: no difference\n"
    assert set(operations(losant)) <= READS


def test_a_dry_run_shows_the_difference_and_changes_nothing(losant: Emulator, pipeline: Pipeline) -> None:
    pipeline.run("--create")
    pipeline.save("# Report", "It has changed.", outputs=[*OUTPUTS, *OUTPUTS], description="Daily")
    losant.clear_requests()

    shown = pipeline.run("--dry-run")

    first, *lines = shown.splitlines()
    assert first == "Report: would update description, outputs, upload report.ipynb"
    assert {
        "    +It has changed.",
        '    +"Daily"',
        "    --- Losant: outputs",
        "    +++ file: outputs",
    } <= set(lines)
    assert "    -# Report" not in lines
    assert set(operations(losant)) <= READS
    assert pipeline.run() == "Report: update description, outputs, upload report.ipynb\n"
    assert pipeline.run("--dry-run") == "Report: no difference\n"


def test_a_dry_run_shows_the_whole_of_a_notebook_that_would_be_created(
    losant: Emulator, pipeline: Pipeline
) -> None:
    shown = pipeline.run("--create", "--dry-run")

    assert shown.splitlines()[0] == "Report: would create it, upload report.ipynb"
    assert "    +# Report" in shown.splitlines()
    assert losant.backend.notebooks == {}


def test_a_dry_run_says_that_only_outputs_differ(losant: Emulator, pipeline: Pipeline) -> None:
    pipeline.run("--create")
    file = pipeline.folder / "report.ipynb"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"metadata": {"a": 1}}))

    assert "report.ipynb: only outputs or metadata differ" in pipeline.run("--dry-run")


@pytest.mark.parametrize("content", ["print()", "[]", '{"cells": 1}', '{"cells": [{"source": "a"}]}'])
def test_a_dry_run_says_that_losants_file_is_not_a_notebook(
    losant: Emulator, pipeline: Pipeline, content: str
) -> None:
    pipeline.run("--create")
    (made,) = losant.backend.notebooks.values()
    losant.backend.upload(made, "report.ipynb", content.encode())

    shown = pipeline.run("--dry-run").splitlines()

    assert shown[0] == "Report: would upload report.ipynb"
    assert {"    -(not a notebook)", "    +# Report"} <= set(shown)


def test_the_command_says_why_it_waits_and_nothing_else_about_its_requests(
    losant: Emulator, pipeline: Pipeline
) -> None:
    losant.inject("notebooks.get", Fault("server_error"))

    shown = pipeline.run("--create")

    assert shown == "Report: create it, upload report.ipynb\n"
    (line,) = pipeline.errors.splitlines()
    assert "503" in line
    assert "retrying (1 of 1)" in line


def test_a_notebook_with_an_id_is_found_by_its_id(losant: Emulator, pipeline: Pipeline) -> None:
    notebook_id = losant.add_notebook("Another name")
    pipeline.save("# Report", id=notebook_id)

    assert pipeline.run("--create") == f"{notebook_id}: upload report.ipynb\n"
    assert losant.backend.notebook_path(notebook_id).read_text() == source("# Report")


def test_nothing_is_changed_if_one_of_the_files_is_not_a_notebook(
    losant: Emulator, pipeline: Pipeline
) -> None:
    (pipeline.folder / "bad.ipynb").write_text("print()")
    content = json.loads((pipeline.folder / "losant.json").read_text())
    content["notebooks"].append({"name": "Bad", "file": "bad.ipynb"})
    (pipeline.folder / "losant.json").write_text(json.dumps(content))

    assert "bad.ipynb is not a notebook" in pipeline.fail("--create")
    assert losant.requests == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"notebooks": 1}',
        '{"notebooks": [{"name": "a"}]}',
        '{"notebooks": [{"file": "report.ipynb"}]}',
    ],
)
def test_a_file_that_lists_no_notebooks_is_refused(
    losant: Emulator, pipeline: Pipeline, content: str
) -> None:
    (pipeline.folder / "losant.json").write_text(content)

    assert "losant.json" in pipeline.fail()
    assert losant.requests == []


def test_the_reason_of_a_failure_is_printed(
    losant: Emulator, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = f"Report: notebook_name: application {losant.application_id} has no notebook named 'Report'"
    assert expected in pipeline.fail()
    assert "losant_none" in pipeline.fail("--conn-id", "losant_none")
    token = losant.add_token(["notebooks.get"])
    monkeypatch.setenv("AIRFLOW_CONN_LOSANT_DEFAULT", json.dumps(connection(losant) | {"password": token}))
    said = pipeline.fail("--create")
    assert "Report: " in said
    assert token not in said


def test_the_command_needs_no_airflow_database(losant: Emulator, pipeline: Pipeline, tmp_path: Path) -> None:
    home = tmp_path / "airflow"
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/missing/airflow.db",
        "AIRFLOW_CONN_LOSANT_DEFAULT": json.dumps(connection(losant)),
    }
    command = [sys.executable, "-m", "airflow_provider_losant.deploy", "losant.json", "--create"]

    done = subprocess.run(
        command, cwd=pipeline.folder, env=env, capture_output=True, text=True, check=False, timeout=120
    )

    assert (done.returncode, done.stdout) == (0, "Report: create it, upload report.ipynb\n"), done.stderr
    assert not (tmp_path / "missing").exists()
