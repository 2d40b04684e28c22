# SPDX-License-Identifier: Apache-2.0
"""Every block of code in the documentation is run, loaded or read by what it is for."""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskGroup, task

from airflow_provider_losant.api.model import Execution, ExecutionRef, Status
from airflow_provider_losant.api.payloads import encode_context
from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.emulator.http.schemas import body_error
from airflow_provider_losant.emulator.seed import Seed
from tests.meta.commands import accept_connection, is_setting, problems_of, read_settings
from tests.meta.public import PUBLIC, resolved
from tests.provider.conftest import set_connection
from tests.support.factories import owner
from tests.support.pages import Block, pages
from tests.support.paths import ROOT

pytestmark = [
    # Pages are written for the newest Airflow; their text says what older ones lack.
    pytest.mark.airflow(since="3.3"),
    pytest.mark.skipif(find_spec("sphinx") is None, reason="the extra docs is not installed"),
]

PLAYED = {"docs/get-started/quickstart.md": "tests/journeys/test_quickstart.py"}
"""Pages whose blocks another test plays through, word for word."""
RUN = ("example_dags", "tests", "docs/get-started/quickstart")
"""Folders whose files tests run."""
SHELLS = {"console", "shell"}
CHECKED = {"python", "json", "ini", "{literalinclude}", *SHELLS}
NO_CODE = {"text", "{toctree}", "{eval-rst}", "{glossary}", "{figure}", "{image}", "{include}", "{index}"} | {
    "{note}",
    "{tip}",
    "{important}",
    "{warning}",
    "{seealso}",
}
"""Diagrams and what is printed, and what Sphinx checks."""
NOTEBOOK = "5c782b8d4f3a8e51c1db42e4"
APPLICATION = "575ec8687ae143cd83dc4a97"


def is_played(block: Block) -> bool:
    test = ROOT / PLAYED.get(str(block.page.relative_to(ROOT)), "nowhere")
    return test.exists() and block.page.name in test.read_text()


BLOCKS = [block for page in pages() for block in page.blocks if not is_played(block)]


def of(*kinds: str) -> pytest.MarkDecorator:
    """Ask a test about each block of some kinds."""
    return pytest.mark.parametrize("block", [it for it in BLOCKS if it.kind in kinds], ids=str)


def is_dag_file(block: Block) -> bool:
    return bool(re.search(r"^(from|import) .*\b(dag|DAG)\b", block.body, re.MULTILINE))


DAG_FILES = [it for it in BLOCKS if it.kind == "python" and is_dag_file(it)]
PARTS = [it for it in BLOCKS if it.kind == "python" and not is_dag_file(it)]
"""Programs, cells of a notebook, and pieces of a DAG."""


class Task(type(task)):  # type: ignore[misc]  # its name is another in each Airflow
    """Airflow's ``task``, as it is where the provider is installed (see test_installed.py)."""

    losant_notebook = staticmethod(losant_notebook_task)


@pytest.fixture
def losant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """Run a local Losant that has the notebook of the examples, and a connection to it."""
    with Emulator(application_id=APPLICATION) as emulator:
        emulator.add_notebook("Energy report", notebook_id=NOTEBOOK)
        emulator.script(NOTEBOOK, Script(notebook=0.01))
        set_connection(monkeypatch, emulator)
        yield emulator


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {str(it): it.kind for it in BLOCKS if it.kind not in CHECKED | NO_CODE} == {}
    assert {it.kind for it in BLOCKS} >= {"python", "json", "console", "{literalinclude}"}


@of("{literalinclude}")
def test_included_code_comes_from_a_file_that_tests_run(block: Block) -> None:
    tags = re.findall(r'"\[(?:START|END) (\S+)\]"', block.body)

    assert any(block.included.is_relative_to(ROOT / folder) for folder in RUN)
    assert all(f"# [START {tag}]" in block.included.read_text() for tag in tags)


@pytest.mark.parametrize(
    "page", sorted({it.page for it in PARTS}), ids=lambda page: f"{page.parent.name}/{page.stem}"
)
@pytest.mark.usefixtures("losant")
def test_the_python_blocks_of_a_page_run_from_top_to_bottom(page: Path, tmp_path: Path) -> None:
    """One block after the other, as they are read; pieces of a DAG go into one of the page's own."""
    (tmp_path / "context.json").write_text('{"airflow": {"openlineage": {"OPENLINEAGE_PARENT_ID": "a/b/c"}}}')
    names: dict[str, Any] = {name.rpartition(".")[2]: resolved(name) for name in PUBLIC} | {"task": Task()}

    with (
        patch.dict(os.environ, INPUT_DIR=str(tmp_path), OUTPUT_DIR=str(tmp_path)),
        DAG("page", schedule=None),
    ):
        for number, block in enumerate(it for it in PARTS if it.page == page):
            with TaskGroup(f"block_{number}"):
                exec(compile(block.body, str(block), "exec"), names)


@pytest.mark.parametrize("block", DAG_FILES, ids=str)
def test_a_whole_dag_file_is_loaded_by_airflow(block: Block, tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    (tmp_path / "page.py").write_text(block.body)
    bag = DagBag(tmp_path)

    assert bag.import_errors == {}
    assert len(bag.dags) == 1


@of("json")
def test_json_examples_are_accepted_by_the_code_they_are_for(block: Block, tmp_path: Path) -> None:
    parsed = json.loads(block.body)
    if "conn_type" in parsed:
        accept_connection(block.body)
    elif "notebooks" in parsed:
        (tmp_path / "seed.json").write_text(block.body)
        assert Seed.load(tmp_path / "seed.json").notebooks
    elif "outputType" in parsed:
        assert body_error("newNotebook", {"name": "Example", "outputs": [parsed]}) is None
    elif "execution_id" in parsed:
        assert list(parsed) == [*make_execution().to_result(), "url"]
        assert list(parsed["durations"]) == list(make_execution().durations)
    elif "airflow" in parsed:
        encode_context(parsed)
        assert parsed["airflow"].keys() <= make_marker().keys()
    else:
        read_settings({"password": "token", "extra": parsed})


@of("ini")
def test_airflow_knows_every_setting_of_an_example(block: Block) -> None:
    parsed = configparser.ConfigParser()
    parsed.read_string(block.body)
    named = [(section, option) for section in parsed.sections() for option in parsed[section]]

    assert named
    assert [it for it in named if not is_setting(*it)] == []


@of(*SHELLS)
def test_every_command_exists_and_accepts_its_arguments(block: Block) -> None:
    commands = block.commands

    assert commands
    assert [problem for command in commands for problem in problems_of(command)] == []


def make_execution() -> Execution:
    ref = ExecutionRef(application_id=APPLICATION, notebook_id=NOTEBOOK, execution_id="0" * 24)
    return Execution(ref=ref, status=Status.of("completed"))


def make_marker() -> dict[str, Any]:
    return owner().add_marker({}, {"OPENLINEAGE_PARENT_ID": ""})["airflow"]  # type: ignore[no-any-return]  # a context has any values
