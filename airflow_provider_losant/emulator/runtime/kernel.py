# SPDX-License-Identifier: Apache-2.0
"""A notebook that runs: the runner process, what it reports, and its certain death."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final, Self

RUNNER: Final = Path(__file__).with_name("runner.py")
# A notebook sees this much of the emulator's environment, so that no secret of it gets into a result file.
PASSED: Final = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "MPLCONFIGDIR",
    "XDG_CACHE_HOME",
]
OWN: Final = "LOSANT_EMULATOR_"
LONGEST_REPORT: Final = 16 * 1024**2
GRACE: Final = 2.0
LOOKS: Final = 5
"""How often to look for what a notebook has left: it may go on starting more while it is looked for."""


class NotebookBroken(Exception):
    """Says why a notebook could not be run at all."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


class RunningNotebook:
    """
    A notebook in the hands of its runner.

    :param process: the runner.
    :param input_dir: as in the environment of every process of the notebook, and of no other.
    """

    def __init__(self, process: asyncio.subprocess.Process, input_dir: Path) -> None:
        self._process = process
        self._input_dir = input_dir
        self._kernel: int | None = None

    @classmethod
    async def start(cls, notebook: Path, *, input_dir: Path, output_dir: Path, results: Path) -> Self:
        """Start a runner in the notebook's folder."""
        folder = notebook.parent
        environment = {
            name: value for name, value in os.environ.items() if name in PASSED or name.startswith(OWN)
        }
        environment |= {
            "INPUT_DIR": str(input_dir),
            "OUTPUT_DIR": str(output_dir),
            "TMPDIR": str(folder),
            # The kernel of this very Python, whatever else the user has installed or configured.
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTER_CONFIG_DIR": str(folder / ".jupyter"),
            "JUPYTER_DATA_DIR": str(folder / ".jupyter"),
            "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter"),
            "IPYTHONDIR": str(folder / ".ipython"),
            "JUPYTER_PLATFORM_DIRS": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }
        with (folder / "runner.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # or the folder of the runner would hide modules of the same names
                str(RUNNER),
                str(notebook),
                str(results),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
                limit=LONGEST_REPORT,
            )
        return cls(process, input_dir)

    async def report(self, key: str) -> Any:
        """
        Wait until the runner reports something.

        :raises NotebookBroken: when it reports that it cannot go on, or ends.
        """
        reports = self._process.stdout
        while reports is not None and (line := await reports.readline()):
            told = _told(line)
            self._kernel = told.get("kernel", self._kernel)
            if "broken" in told:
                raise NotebookBroken(*told["broken"])
            if key in told:
                return told[key]
        raise NotebookBroken(
            "RunnerError", f"The process that ran the notebook ended early ({key} is missing)."
        )

    async def kill(self) -> None:
        """End the runner, the kernel and what the notebook has left; then none of them exists any more."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), GRACE)
        for group in (self._kernel, self._process.pid):
            if group is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
        await self._process.wait()
        for _ in range(LOOKS):
            strays = await asyncio.to_thread(_strays, f"INPUT_DIR={self._input_dir}".encode())
            for stray in strays:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(stray, signal.SIGKILL)
            if not strays:
                break


def _strays(mark: bytes) -> list[int]:
    """Find processes by the environment that they inherited, whatever their session, where Linux shows it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _told(line: bytes) -> dict[str, Any]:
    # Libraries that print to standard output on import are no concern of ours.
    with contextlib.suppress(ValueError):
        told = json.loads(line)
        if isinstance(told, dict):
            return told
    return {}
