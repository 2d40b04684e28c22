# SPDX-License-Identifier: Apache-2.0
"""Run commands outside of the checkout, so that they import what is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Run = Callable[..., str]
RELEASED = int(datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC).timestamp())
"""When the commit of a release was made; zip files count in steps of two seconds."""


def run(*command: str | Path, umask: int = -1, **environment: str) -> str:
    """Run a command outside of the checkout; a failure shows its whole output."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=os.environ["AIRFLOW_HOME"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        umask=umask,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, folder: Path, *, umask: int = -1, **environment: str) -> None:
    """Build the source distribution, and from it the wheel, as a release does."""
    command: list[str | Path] = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source]
    run(*command, umask=umask, **environment)


def json_in(output: str) -> Any:
    """Parse the one line of an output that is JSON."""
    (line,) = [line for line in output.splitlines() if re.match(r"[\[{]\S*\"|\[{", line)]
    return json.loads(line)
