# SPDX-License-Identifier: Apache-2.0
"""The distributions as a release builds them, and an environment with the wheel of this project."""

from __future__ import annotations

import site
import sys
import tarfile
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.support.installed import RELEASED, Run, build, run
from tests.support.paths import ROOT
from tests.support.source_files import PACKAGE


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both distributions from the checkout; returns their folder."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder, SOURCE_DATE_EPOCH=str(RELEASED))
    return folder


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def unpacked(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the source distribution; returns its root."""
    folder = tmp_path_factory.mktemp("unpacked")
    (packed,) = dist.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


@pytest.fixture(scope="session")
def airflow(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Install the wheel into an empty environment; returns a way to call its Python."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    interpreter = folder / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", interpreter]
    run(*pip, "install", "-q", "--no-deps", "--no-index", wheel)
    (packages,) = folder.glob("lib/python*/site-packages")
    # What this project depends on is not installed again, only found. That a path file is not followed in
    # folders which another names keeps an editable installation of the project out.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")

    def python(*arguments: str | Path, **environment: Any) -> str:
        return run(interpreter, *arguments, **environment)

    place = python("-c", f"import {PACKAGE}; print({PACKAGE}.__file__)")
    assert place.startswith(str(packages)), f"not the installed wheel but {place}"
    return python
