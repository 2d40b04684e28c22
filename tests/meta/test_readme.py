# SPDX-License-Identifier: Apache-2.0
"""The statements of the README are true."""

from __future__ import annotations

import re
import tomllib
from urllib.parse import unquote

import pytest

from tests.support.airflow_versions import MINORS
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def badges() -> dict[str, str]:
    """Return the message of each badge; its alternative text says the same."""
    said = {}
    for alternative, path in re.findall(r"!\[([^]]+)]\(https://img\.shields\.io/badge/([^)]+)\)", README):
        label, message, _ = [it.replace("--", "-") for it in re.split("(?<!-)-(?!-)", unquote(path))]
        assert alternative == f"{label} {message}"
        said[label] = message
    return said


def test_the_badges_are_true() -> None:
    pythons = [it.rpartition(" ")[2] for it in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", it)]

    assert badges() == {
        "Airflow": " | ".join(MINORS),
        "Python": " | ".join(pythons),
        "License": PROJECT["license"],
    }


def test_it_names_the_two_commands() -> None:
    assert "python3 -m example_dags.demo" in README
    assert "python3 -m tests" in README


@pytest.mark.airflow(since="3.0")
def test_its_dag_is_one() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    namespace: dict[str, object] = {}

    exec(compile(code, "README.md", "exec"), namespace)

    made = namespace["energy_report"]()  # type: ignore[operator]
    assert made.task_ids == ["report"]
    assert made.get_task("report").deferrable is True
