# SPDX-License-Identifier: Apache-2.0
"""Both distributions of a release, which are the same from every checkout."""

from __future__ import annotations

import email
import os
import re
import sys
import tarfile
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

from airflow_provider_losant import __version__
from tests.support.installed import RELEASED, build, run
from tests.support.paths import ROOT
from tests.support.source_files import PACKAGE, imports, own_files

LONG = ("benchmarks", "journeys/chaos", "journeys/distributed", "journeys/soak", "provider/fault_pairs")
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


def test_the_source_distribution_has_no_program_that_runs_for_minutes_and_nothing_that_imports_one(
    unpacked: Path,
) -> None:
    here = {str(file.relative_to(unpacked)) for file in unpacked.rglob("*.py")}
    left_out = {str(file.relative_to(ROOT)) for file in own_files(".py")} - here
    imported = {
        f"{name} imports {it.name}"
        for name in here
        for it in imports(unpacked / name)
        if {f"{it.name.replace('.', '/')}.py", f"{it.name.rpartition('.')[0].replace('.', '/')}.py"}
        & left_out
    }

    assert {f"tests/{name}/__main__.py" for name in LONG} <= left_out
    assert imported == set()


def test_builds_are_reproducible(dist: Path, unpacked: Path, tmp_path: Path) -> None:
    for path in [unpacked, *unpacked.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)  # as a strict umask has them
        os.utime(path, (1_000_000_000, 1_000_000_000))

    epoch = {"SOURCE_DATE_EPOCH": str(RELEASED)}
    build(unpacked, tmp_path, umask=0o077, TZ="Pacific/Kiritimati", PYTHONHASHSEED="7", **epoch)

    assert contents(tmp_path) == contents(dist)


def test_files_have_the_date_of_the_release(dist: Path, wheel: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as packed, zipfile.ZipFile(wheel) as archive:
        assert {it.mtime for it in packed.getmembers()} == {RELEASED}
        assert {it.date_time for it in archive.infolist()} == {time.gmtime(RELEASED)[:6]}


def test_the_version_is_written_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == f"{PACKAGE}/__init__.py"


def test_the_metadata_names_the_licence_and_carries_its_text(metadata: email.message.Message) -> None:
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == [f"{PACKAGE}/LICENSE"]
    assert "Framework :: Apache Airflow :: Provider" in metadata.get_all("Classifier", [])


def test_the_package_index_gets_links_that_work_without_the_repository(
    metadata: email.message.Message,
) -> None:
    said = dict(it.split(", ") for it in metadata.get_all("Project-URL", []))
    links = re.findall(r"\]\(([^)]*)\)", str(metadata.get_payload()))
    ours = [it for it in links if it.startswith(said["Source"])]

    assert {"Documentation", "Source", "Issues", "Changelog"} == set(said)
    assert [it for it in said.values() if not it.startswith(said["Source"])] == []
    assert [it for it in links if not it.startswith("https://")] == []
    assert f"{said['Source']}/raw/main/docs/images/deferred-task.png" in ours
    assert f"{said['Source']}/blob/main/docs/get-started/quickstart.md" in ours
    assert [
        it for it in ours if not (ROOT / it.removeprefix(said["Source"]).split("/main/")[1]).exists()
    ] == []


def test_the_index_would_accept_both_distributions(dist: Path) -> None:
    said = run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))

    assert said.count("PASSED") == 2


def test_the_wheel_has_no_common_packaging_mistake(wheel: Path) -> None:
    said = run(sys.executable, "-m", "check_wheel_contents", "--config", ROOT / "pyproject.toml", wheel)

    assert said.endswith(": OK\n")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
