# SPDX-License-Identifier: Apache-2.0
"""
Find the lowest version of each requirement: ``.venv/bin/python -m tests.lowest``.

Run it after a lower bound in ``pyproject.toml`` has changed. It writes ``tests/constraints/lowest``, which
``python3 -m tests.matrix --lowest`` installs. What we do not require ourselves keeps the version of the other
tests where it can, so that the result does not depend on the day.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.airflow_versions import CONSTRAINTS, LOWEST, MINORS
from tests.support.installer import uv_environment
from tests.support.paths import ROOT

HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# The lowest versions that pyproject.toml allows, and what they need, with Airflow {minor}.
# Written by `python -m tests.lowest`.
"""


def required() -> dict[str, Requirement]:
    """Return what the package and its extras for users and tests require, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    groups = [
        project["dependencies"],
        *(extras[it] for it in ("emulator", "upload", "openlineage", "demo", "test")),
    ]
    found = {canonicalize_name(it.name): it for group in groups for it in map(Requirement, group)}
    return {name: it for name, it in found.items() if name != project["name"]}


def pins(file: Path) -> dict[str, str]:
    """Return the version of each package in a file of constraints."""
    return dict(line.split("==") for line in file.read_text().splitlines() if not line.startswith("#"))


def resolve(minor: str, folder: Path) -> str:
    """Return the lowest versions that go together with an Airflow, as lines of a file of constraints."""
    others = {name: version for name, version in pins(CONSTRAINTS[minor]).items() if name not in required()}
    found, airflow = folder / f"{minor}.txt", folder / f"airflow-{minor}.txt"
    found.write_text("".join(f"{name}=={version}\n" for name, version in others.items()))  # uv prefers these
    newest = pins(CONSTRAINTS[minor])["apache-airflow"]
    # The oldest Airflow has a lowest version, too; the newest is the one that the other tests use.
    airflow.write_text(f"apache-airflow{'<=' if minor == MINORS[0] else '=='}{newest}\n")
    configuration = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    lowest = ["--extra", "test", "--resolution", "lowest-direct", "--python-version", "3.11"]
    plain = ["--quiet", "--no-header", "--no-annotate", "--output-file", found, "--constraint", airflow]
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(
        [uv, "pip", "compile", ROOT / "pyproject.toml", *lowest, *plain],
        env=uv_environment(configuration.splitlines()),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return found.read_text()


def main() -> None:
    """Write the files."""
    argparse.ArgumentParser(prog="python -m tests.lowest", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for minor, file in LOWEST.items():
            file.write_text(HEAD.format(minor=minor) + resolve(minor, Path(folder)))
            print(file.relative_to(ROOT))


if __name__ == "__main__":
    main()
