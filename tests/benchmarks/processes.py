# SPDX-License-Identifier: Apache-2.0
"""Start the processes of a benchmark, and leave none behind."""

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

LONGEST = 600.0


@contextmanager
def serving(folder: Path, *, is_plain: bool = False) -> Iterator[Address]:
    """
    Run the server while a ``with`` block lasts.

    :param folder: For its certificate.
    :param is_plain: Whether it speaks http rather than https.
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


def ask(python: str | Path, *command: str, env: Mapping[str, str]) -> Any:
    """
    Return the JSON that a Python process prints in its last line.

    :param python: The interpreter.
    :param command: Its arguments.
    :param env: Its whole environment.
    :raises RuntimeError: it failed; the message is its last words.
    """
    done = subprocess.run(
        [str(python), *command],
        cwd=ROOT,
        env=dict(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST,
    )
    if done.returncode:
        raise RuntimeError("\n".join(done.stderr.splitlines()[-1:]) or f"exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])
