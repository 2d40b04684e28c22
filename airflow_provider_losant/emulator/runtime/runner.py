# SPDX-License-Identifier: Apache-2.0
"""
Run one notebook with a real kernel, in a process of its own.

Started as a file and not as a module, so that it loads nothing of the package. It reports on standard output,
one JSON object a line, and ends with its kernel as soon as standard input closes: however the emulator dies,
no kernel outlives it.
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

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Kernel:
    """The kernel, and the right to kill it at any moment."""

    def __init__(self) -> None:
        self._launching = threading.Lock()
        self._group: int | None = None

    async def launch(self, folder: Path) -> AsyncKernelManager:
        """Start the kernel."""
        from jupyter_client.manager import AsyncKernelManager

        manager = AsyncKernelManager(kernel_name="python3")
        # Whoever comes to kill waits until there is something to kill.
        with self._launching:
            # What the notebook's own processes print must not be taken for a report of ours.
            await manager.start_kernel(cwd=str(folder), stdout=sys.stderr)
            self._group = getattr(manager.provisioner, "pid", None)
        _say(kernel=self._group)
        return manager

    def kill(self) -> None:
        """Kill the kernel and everything that the notebook has started."""
        with self._launching:
            if self._group is not None:
                # Jupyter makes every kernel the leader of a process group.
                with suppress(ProcessLookupError, ChildProcessError):
                    os.killpg(self._group, signal.SIGKILL)
                    # Not even a zombie is left to somebody else.
                    os.waitpid(self._group, 0)

    def die_with(self, stream: Any) -> None:
        """Wait for the end of a stream, then end this process without ceremony."""
        with suppress(OSError, ValueError):
            stream.read()
        self.kill()
        os._exit(1)


def _say(**told: object) -> None:
    print(json.dumps(told), flush=True)  # noqa: T201  # standard output is the wire to the emulator


async def run(notebook: Path, results: Path, kernel: Kernel) -> None:
    """Run the notebook, report its end, and write the ``result.*`` files."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    errors: list[tuple[str, str]] = []
    traceback = ""
    content: Any = nbformat.read(notebook, as_version=4)  # type: ignore[no-untyped-call]
    manager = await kernel.launch(notebook.parent)

    def begin(**_: object) -> None:
        _say(began=True)

    client = NotebookClient(content, km=manager, timeout=None, on_notebook_start=begin)
    try:
        await client.async_execute()
    except CellExecutionError as error:
        errors, traceback = [(error.ename, error.evalue)], _COLOURS.sub("", error.traceback)
    except DeadKernelError as error:
        errors, traceback = [("DeadKernelError", str(error))], str(error)
    _say(ended=errors)
    kernel.kill()
    _store(content, results, traceback)
    _say(stored=True)


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
    """Run the notebook named on the command line."""
    kernel = Kernel()
    threading.Thread(target=kernel.die_with, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]), kernel))
    except Exception as error:  # noqa: BLE001  # whatever it is, the execution has to say so
        _say(broken=[type(error).__name__, str(error)])
    finally:
        kernel.kill()


if __name__ == "__main__":
    main()
