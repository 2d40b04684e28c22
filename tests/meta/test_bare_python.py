# SPDX-License-Identifier: Apache-2.0
"""The commands of the README start in a Python that has nothing but its standard library."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.paths import ROOT


@pytest.mark.parametrize("module", ["example_dags.demo", "tests.matrix", "tests.release"])
def test_a_command_starts_without_any_package(module: str) -> None:
    command = [sys.executable, "-S", "-m", module, "--help"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
    assert f"usage: python3 -m {module}" in done.stdout


def test_the_tests_find_their_environment_without_any_package() -> None:
    command = [sys.executable, "-S", "-c", "import tests.__main__"]

    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
