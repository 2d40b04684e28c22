# SPDX-License-Identifier: Apache-2.0
"""Starts the runner process of a notebook, reads its reports and kills everything that it has started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final, Self, cast

RUNNER: Final = Path(__file__).with_name("runner.py")
# A notebook gets only these variables of the environment, so that no secret gets into a result file.
PASSED_VARIABLES: Final = [
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
PASSED_PREFIX: Final = "LOSANT_EMULATOR_"
MAX_REPORT_SIZE: Final = 16 * 1024**2
GRACE_PERIOD: Final = 2.0
"""Seconds that the runner has to end by itself before it is killed."""
KILL_ROUNDS: Final = 5
"""How often to search for leftover processes: they may start more while they are being killed."""


class RunnerError(Exception):
    """
    Raised when a notebook could not be run.

    :param name: the name of the execution error.
    :param message: the message of the execution error.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.message = message


class NotebookProcess:
    """
    A notebook that is being run by a runner process.

    :param process: the runner.
    :param input_dir: the notebook's ``INPUT_DIR``; only its processes have it in their environment.
    """

    def __init__(self, process: asyncio.subprocess.Process, input_dir: Path) -> None:
        self._process = process
        self._input_dir = input_dir
        self._kernel: int | None = None

    @classmethod
    async def start(cls, notebook: Path, *, input_dir: Path, output_dir: Path, results: Path) -> Self:
        """
        Start a runner in the folder of the notebook.

        :param notebook: the notebook file to run.
        :param input_dir: the notebook's ``INPUT_DIR``.
        :param output_dir: the notebook's ``OUTPUT_DIR``.
        :param results: the folder for the ``result.*`` files.
        """
        folder = notebook.parent
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in PASSED_VARIABLES or name.startswith(PASSED_PREFIX)
        }
        environment |= {
            "INPUT_DIR": str(input_dir),
            "OUTPUT_DIR": str(output_dir),
            "TMPDIR": str(folder),
            # Use the kernel of this Python, whatever else the user has installed or configured.
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
                "-P",  # without it, modules in the runner's folder would hide others of the same names
                str(RUNNER),
                str(notebook),
                str(results),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
                limit=MAX_REPORT_SIZE,
            )
        return cls(process, input_dir)

    async def wait_for(self, key: str) -> Any:
        """
        Wait until the runner reports a key, and return its value.

        :raises RunnerError: if the runner reports an error, or ends before it reports the key.
        """
        reports = cast("asyncio.StreamReader", self._process.stdout)
        while line := await reports.readline():
            report = _parse(line)
            self._kernel = report.get("kernel", self._kernel)
            if "error" in report:
                raise RunnerError(*report["error"])
            if key in report:
                return report[key]
        raise RunnerError("RunnerError", f"The process that ran the notebook ended early ({key} is missing).")

    async def kill(self) -> None:
        """Kill the runner, the kernel and all processes that the notebook has started, and wait for them."""
        cast("asyncio.StreamWriter", self._process.stdin).close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), GRACE_PERIOD)
        for group in (self._kernel, self._process.pid):
            if group is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
        await self._process.wait()
        for _ in range(KILL_ROUNDS):
            leftovers = await asyncio.to_thread(_find_processes, f"INPUT_DIR={self._input_dir}".encode())
            for process_id in leftovers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process_id, signal.SIGKILL)
            if not leftovers:
                break


def _find_processes(variable: bytes) -> list[int]:
    """Find processes in any session by an environment variable that they inherited; works on Linux only."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _parse(line: bytes) -> dict[str, Any]:
    # Libraries may print to standard output on import; anything but a JSON object is ignored.
    with contextlib.suppress(ValueError):
        report = json.loads(line)
        if isinstance(report, dict):
            return report
    return {}
