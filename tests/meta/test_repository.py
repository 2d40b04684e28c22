# SPDX-License-Identifier: Apache-2.0
"""What runs the project on a forge: workflows, forms and hooks are valid, and agree with the rest."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.airflow_versions import CONSTRAINTS, LOWEST, MINORS, NEWEST
from tests.support.paths import ROOT
from tests.support.source_files import own_files

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCHEMAS = {
    **dict.fromkeys(WORKFLOWS, "github-workflows"),
    GITHUB / "dependabot.yml": "dependabot",
    GITHUB / "ISSUE_TEMPLATE" / "bug.yml": "github-issue-forms",
    GITHUB / "ISSUE_TEMPLATE" / "feature.yml": "github-issue-forms",
    GITHUB / "ISSUE_TEMPLATE" / "config.yml": "github-issue-config",
    ROOT / ".readthedocs.yaml": "readthedocs",
}
LICENCE_LINE = "# SPDX-License-Identifier: Apache-2.0"

pytestmark = pytest.mark.any_airflow
with_lint = pytest.mark.skipif(
    find_spec("check_jsonschema") is None, reason="the extra lint is not installed"
)


def content(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def check(*command: str | Path) -> None:
    done = subprocess.run(list(command), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


@with_lint
@pytest.mark.parametrize("file", SCHEMAS, ids=lambda file: file.name)
def test_a_file_of_the_forge_is_valid_by_its_schema(file: Path) -> None:
    schema = f"vendor.{SCHEMAS[file]}"

    check(sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, file)


@with_lint
def test_the_workflows_have_no_known_weakness() -> None:
    check(Path(sys.executable).with_name("zizmor"), "--offline", "--no-progress", "--quiet", ".github")


def test_every_yaml_file_of_the_forge_is_checked_and_starts_with_its_licence() -> None:
    files = [*GITHUB.rglob("*.yml"), *ROOT.glob(".*.yaml")]
    starts = {
        it.name: it.read_text().removeprefix("#!/usr/bin/env bash\n") for it in [*files, ROOT / ".ci" / "run"]
    }

    assert {*files} - {ROOT / ".pre-commit-config.yaml"} == {*SCHEMAS}
    assert [name for name, text in starts.items() if not text.startswith(f"{LICENCE_LINE}\n")] == []


def test_the_workflow_tests_every_supported_airflow_and_python() -> None:
    jobs = content(GITHUB / "workflows" / "ci.yml")["jobs"]
    matrices = {name: job["strategy"]["matrix"] for name, job in jobs.items() if "strategy" in job}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pythons = [
        it.rpartition(" ")[2] for it in project["classifiers"] if it.startswith("Programming") and "." in it
    ]

    airflows = [NEWEST, *matrices["other-airflows"]["airflow"]]
    assert sorted(airflows) == sorted(MINORS)
    assert ["3.11", *matrices["later-pythons"]["python"]] == pythons
    assert jobs["later-pythons"]["steps"][-1]["run"] == f"python3 -m tests.matrix {NEWEST}"
    assert matrices["lowest"]["airflow"] == list(LOWEST)


def test_a_bug_report_asks_for_what_is_needed_to_repeat_it() -> None:
    fields = {it.get("id"): it for it in content(GITHUB / "ISSUE_TEMPLATE" / "bug.yml")["body"]}

    needed = ("airflow", "provider", "python", "mode", "happened", "task", "log")
    assert [name for name in needed if not fields[name]["validations"]["required"]] == []
    assert "losant" in fields


def test_the_hooks_before_a_commit_run_the_versions_that_the_checks_run() -> None:
    pins = set(CONSTRAINTS[NEWEST].read_text().splitlines())
    hooks = content(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    used = {it for hook in hooks for it in hook["additional_dependencies"]}

    assert {it.partition("==")[0] for it in used - pins} == {"pre-commit-hooks"}  # the checks need none of it


def test_notebooks_are_stored_without_outputs() -> None:
    notebooks = own_files(".ipynb")
    cells = [(file.name, cell) for file in notebooks for cell in content(file)["cells"]]

    assert cells
    assert [name for name, cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
