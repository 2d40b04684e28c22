# SPDX-License-Identifier: Apache-2.0
"""Both distributions of a release, which are the same from every checkout."""

from __future__ import annotations

import email
import os
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from airflow_provider_losant import __version__
from tests.support.installed import build, run
from tests.support.source_files import PACKAGE, ROOT

DIST_INFO = f"{PACKAGE}-{__version__}.dist-info"

# Everything here waits for a build, on whatever machine this is.
pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("built-wheel")]


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{DIST_INFO}/METADATA"))


def test_the_wheel_contains_exactly_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {str(file.relative_to(ROOT)) for file in (ROOT / PACKAGE).rglob("*.py")}

    assert {name.split("/")[0] for name in names} == {PACKAGE, DIST_INFO}
    assert {name for name in names if name.endswith(".py")} == sources
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/LICENSE"} <= names


def test_the_source_distribution_can_be_tested(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "README.md", "tests/__main__.py", "docs/conf.py"} <= names
    assert {name for name in names if "__pycache__" in name or name.startswith((".venv", ".demo"))} == set()


def test_builds_are_reproducible(dist: Path, unpacked: Path, tmp_path: Path) -> None:
    for path in [unpacked, *unpacked.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)  # as a strict umask has them
        os.utime(path, (1_000_000_000, 1_000_000_000))

    build(unpacked, tmp_path, umask=0o077, TZ="Pacific/Kiritimati", PYTHONHASHSEED="7")

    assert contents(tmp_path) == contents(dist)


def test_the_version_is_written_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == f"{PACKAGE}/__init__.py"


def test_the_metadata_names_the_licence_and_carries_its_text(metadata: email.message.Message) -> None:
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == [f"{PACKAGE}/LICENSE"]
    assert "Framework :: Apache Airflow :: Provider" in metadata.get_all("Classifier", [])


def test_the_index_would_accept_both_distributions(dist: Path) -> None:
    said = run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))

    assert said.count("PASSED") == 2


def test_the_wheel_has_no_common_packaging_mistake(wheel: Path) -> None:
    said = run(sys.executable, "-m", "check_wheel_contents", "--config", ROOT / "pyproject.toml", wheel)

    assert said.endswith(": OK\n")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
