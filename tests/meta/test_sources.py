# SPDX-License-Identifier: Apache-2.0
"""Small rules for every file of the project."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.lowest import pins, required
from tests.support.airflow_versions import LOWEST, NEWEST
from tests.support.paths import ROOT
from tests.support.source_files import own_files

LICENCE_LINE = "# SPDX-License-Identifier: Apache-2.0"
CONSTRAINTS = sorted((ROOT / "tests" / "constraints").glob("*.txt"))
ONLY_WITH_NEWEST = {"distributed", "lint", "moto", "s3"}
"""Extras that are installed with the newest Airflow only."""


def test_every_source_file_starts_with_its_licence() -> None:
    scripts = [ROOT / "pyproject.toml", *CONSTRAINTS]
    first_lines = {
        str(file.relative_to(ROOT)): [line for line in file.read_text().splitlines() if line[:2] != "#!"][:1]
        for file in [*own_files(".py"), *scripts]
    }

    assert {name: line for name, line in first_lines.items() if line != [LICENCE_LINE]} == {}


def test_every_snippet_that_starts_also_ends() -> None:
    broken = {}
    for file in own_files(".py"):
        tags = re.findall(r"^\s*# \[(START|END) ([\w-]+)\]$", file.read_text(), re.MULTILINE)
        names = [name for kind, name in tags if kind == "START"]
        # Each tag opens once and is closed by the very next one: snippets neither repeat nor overlap.
        if tags != [(kind, name) for name in names for kind in ("START", "END")] or len(set(names)) < len(
            names
        ):
            broken[str(file.relative_to(ROOT))] = tags

    assert broken == {}


@pytest.mark.parametrize("file", CONSTRAINTS, ids=lambda file: file.stem)
def test_constraints_pin_plain_versions_of_every_requirement(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.split("==") for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        name: lines
        for name, lines in project["optional-dependencies"].items()
        if name not in ONLY_WITH_NEWEST or file.stem == f"airflow-{NEWEST}"
    }
    asked = [Requirement(line) for group in (project["dependencies"], *extras.values()) for line in group]
    wanted = [it for it in asked if it.name != project["name"]]

    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.+!]+", line)] == []
    assert [it for it in wanted if not it.specifier.contains(pins.get(canonicalize_name(it.name), "0"))] == []


def test_the_libraries_of_losants_image_can_be_installed_by_their_names() -> None:
    lines = (ROOT / "docs" / "guides" / "local-emulator" / "image-v4.txt").read_text().splitlines()
    libraries = [Requirement(line) for line in lines if not line.startswith("#")]

    assert {it.name for it in libraries} >= {"numpy", "pandas", "scikit-learn", "tensorflow"}
    assert [str(it) for it in libraries if [part.operator for part in it.specifier] != ["=="]] == []
    assert len({canonicalize_name(it.name) for it in libraries}) == len(libraries)


def test_no_two_constraint_lines_pin_the_same_package() -> None:
    counts = {
        file.name: Counter(line.split("==")[0] for line in file.read_text().splitlines() if "==" in line)
        for file in CONSTRAINTS
    }

    assert {name: count.most_common(1)[0][1] for name, count in counts.items()} == dict.fromkeys(counts, 1)


@pytest.mark.parametrize("minor", LOWEST)
def test_the_lowest_versions_are_allowed(minor: str) -> None:
    file = LOWEST[minor]
    lowest = pins(file)

    assert file.read_text().startswith(LICENCE_LINE)
    assert [it for name, it in required().items() if not it.specifier.contains(lowest[name])] == []


def test_each_lower_bound_is_a_version_that_is_tested() -> None:
    tested = [pins(file) for file in LOWEST.values()]
    bounds = {
        name: [Version(part.version) for part in it.specifier if part.operator == ">="]
        for name, it in required().items()
    }
    met = {
        name: [bound for bound in found if any(_is_within(lowest[name], bound) for lowest in tested)]
        for name, found in bounds.items()
    }

    assert {name: found for name, found in bounds.items() if len(found) != 1} == {}
    assert {name: found for name, found in bounds.items() if met[name] != found} == {}


def _is_within(version: str, bound: Version) -> bool:
    """Return whether a version is the bound, or the first that was published of those that it names."""
    return Version(version).release[: len(bound.release)] == bound.release
