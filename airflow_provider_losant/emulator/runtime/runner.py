# SPDX-License-Identifier: Apache-2.0
"""
Runs one notebook in a real kernel, in a process of its own.

The emulator starts this file as a script, so that it imports nothing of the package. It reports on standard
output, one JSON object per line, and ends together with its kernel as soon as standard input is closed, so
that no kernel survives the emulator.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

_ANSI_CODES = re.compile(r"\x1b\[[0-9;]*m")


class Kernel:
    """The kernel; any thread may kill it at any time."""

    def __init__(self) -> None:
        self._launching = threading.Lock()
        self._group: int | None = None

    async def launch(self, folder: Path) -> AsyncKernelManager:
        """Start the kernel and report its process group."""
        from jupyter_client.manager import AsyncKernelManager

        manager = AsyncKernelManager(kernel_name="python3")
        # kill() waits for this lock, so that it does not miss a kernel that is just being started.
        with self._launching:
            # Standard output carries the reports, so the notebook's processes get standard error instead.
            await manager.start_kernel(cwd=str(folder), stdout=sys.stderr)
            self._group = getattr(manager.provisioner, "pid", None)
        _report(kernel=self._group)
        return manager

    def kill(self) -> None:
        """Kill the kernel and the processes in its group."""
        with self._launching:
            if self._group is not None:
                # Jupyter makes every kernel the leader of a process group.
                with suppress(ProcessLookupError, ChildProcessError):
                    os.killpg(self._group, signal.SIGKILL)
                    # Reap the kernel, so that it does not remain as a zombie.
                    os.waitpid(self._group, 0)

    def exit_when_closed(self, stream: Any) -> None:
        """Wait until a stream is closed, then kill the kernel and exit this process at once."""
        with suppress(OSError, ValueError):
            stream.read()
        self.kill()
        os._exit(1)


def _report(**report: object) -> None:
    print(json.dumps(report), flush=True)  # noqa: T201  # the emulator reads reports from standard output


async def run(notebook: Path, results: Path, kernel: Kernel) -> None:
    """Run the notebook, report when it has ended, and write the ``result.*`` files."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    errors: list[tuple[str, str]] = []
    traceback = ""
    content: Any = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    manager = await kernel.launch(notebook.parent)

    def on_start(**_: object) -> None:
        _report(started=True)

    client = NotebookClient(content, km=manager, timeout=None, on_notebook_start=on_start)
    try:
        await client.async_execute()
    except CellExecutionError as error:
        errors, traceback = [(error.ename, error.evalue)], _ANSI_CODES.sub("", error.traceback)
    except DeadKernelError as error:
        errors, traceback = [("DeadKernelError", str(error))], str(error)
    _report(ended=errors)
    kernel.kill()
    _store(content, results, traceback)
    _report(stored=True)


def _store(content: Any, results: Path, traceback: str) -> None:
    import nbformat
    from nbconvert import HTMLExporter

    results.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, results / "result.ipynb")  # type: ignore[no-untyped-call]
    outputs = [output for cell in content.cells for output in cell.get("outputs", ())]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    (results / "result.log").write_text(printed, encoding="utf-8")
    if traceback:
        (results / "result.error.log").write_text(traceback + "\n", encoding="utf-8")
    page, _ = HTMLExporter().from_notebook_node(content)  # type: ignore[no-untyped-call]
    (results / "result.html").write_text(page, encoding="utf-8")


def main() -> None:
    """Run the notebook that the command line names."""
    kernel = Kernel()
    threading.Thread(target=kernel.exit_when_closed, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]), kernel))
    except Exception as error:  # noqa: BLE001  # every error has to be reported as an execution error
        _report(error=[type(error).__name__, str(error)])
    finally:
        kernel.kill()


if __name__ == "__main__":
    main()
