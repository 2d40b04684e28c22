# SPDX-License-Identifier: Apache-2.0
"""Start and stop the processes of a benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.benchmarks.records import Address
from tests.support.paths import ROOT

TIMEOUT = 600.0


@contextmanager
def serving(folder: Path, *, is_plain: bool = False) -> Iterator[Address]:
    """
    Run the server while a ``with`` block lasts.

    :param folder: For its certificate.
    :param is_plain: Whether it serves HTTP instead of HTTPS.
    """
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.server",
        str(folder),
        *(["--plain"] if is_plain else []),
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RuntimeError("the server could not start")
        yield Address(**json.loads(line))
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=10)
        process.kill()
        process.wait()


def run_json(python: str | Path, *command: str, env: Mapping[str, str]) -> Any:
    """
    Run a Python process, and return the JSON in the last line of its output.

    :param python: The interpreter.
    :param command: Its arguments.
    :param env: Its whole environment.
    :raises RuntimeError: it failed; the message is the last line of its stderr.
    """
    done = subprocess.run(
        [str(python), *command],
        cwd=ROOT,
        env=dict(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    if done.returncode:
        raise RuntimeError("\n".join(done.stderr.splitlines()[-1:]) or f"exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])
