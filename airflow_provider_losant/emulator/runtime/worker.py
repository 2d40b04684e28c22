# SPDX-License-Identifier: Apache-2.0
"""Runs the notebooks of queued executions in real kernels."""

from __future__ import annotations

import asyncio
import shutil
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_losant.emulator.runtime.inputs import InputError, prepare_inputs
from airflow_provider_losant.emulator.runtime.kernel import NotebookProcess, RunnerError
from airflow_provider_losant.emulator.runtime.outputs import OutputCollector
from airflow_provider_losant.emulator.runtime.templates import template_values
from airflow_provider_losant.emulator.state.timeline import STOPPED, Execution, File

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.model import Notebook

STEP_TIMEOUT: Final = 120.0
"""Seconds that starting a kernel and storing its results may take each."""

Errors = Sequence[tuple[str, str]]


class Worker:
    """
    Runs notebooks, at most as many in parallel as the switches allow.

    All methods run in the event loop of the emulator.

    :param repeat_samples: whether samples of device data repeat.
    """

    def __init__(self, backend: Backend, *, repeat_samples: bool = False) -> None:
        self._backend = backend
        self._repeat_samples = repeat_samples
        self._waiting: deque[Execution] = deque()
        self._running: dict[str, tuple[Execution, asyncio.Task[None]]] = {}
        self._stopping = False

    def wake(self) -> None:
        """Start queued executions as far as there are free slots; stop those cancelled or deleted."""
        backend = self._backend
        with backend.lock:
            while backend.queued:
                self._waiting.append(backend.queued.popleft())
            for execution in [waiting for waiting in self._waiting if self._is_stopped(waiting)]:
                self._waiting.remove(execution)
                self._end(execution, "canceled")
            for execution, task in self._running.values():
                # A second cancellation would interrupt the killing of the kernel.
                if self._is_stopped(execution) and not task.cancelling():
                    task.cancel()
            while self._waiting and len(self._running) < backend.switches.parallel and not self._stopping:
                execution = self._waiting.popleft()
                self._running[execution.id] = execution, asyncio.create_task(self._run(execution))

    async def stop(self) -> None:
        """Kill all kernels; their executions end as ``errored``, as queued ones do after a restart."""
        self._stopping = True
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            if not task.cancelling():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_stopped(self, execution: Execution) -> bool:
        """Return whether an execution was cancelled or deleted."""
        current = self._backend.execution(execution.notebook_id, execution.id)
        return current is None or current.canceling_at is not None

    async def _run(self, execution: Execution) -> None:
        try:
            ending, errors, outputs = await self._execute(execution)
            self._end(execution, ending, errors, outputs)
        except asyncio.CancelledError:
            self._end(execution, "errored", [STOPPED])
        except Exception as error:  # noqa: BLE001  # a bug of the emulator must not leave it running for ever
            self._end(execution, "errored", [(type(error).__name__, str(error))])
        finally:
            del self._running[execution.id]
            shutil.rmtree(self._backend.execution_folder(execution.id) / "work", ignore_errors=True)
            self.wake()

    async def _execute(self, execution: Execution) -> tuple[str, Errors, dict[str, File]]:
        """Prepare inputs, run the notebook, collect outputs; returns the ending, errors and files."""
        backend = self._backend
        with backend.lock:
            notebook = backend.notebooks[execution.notebook_id]
            notebook = replace(notebook, samples=backend.samples(notebook))
        execution = self._update(execution, started_at=backend.clock())
        folder = backend.execution_folder(execution.id)
        (folder / "work" / "output").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(backend.notebook_path(notebook.id), folder / "work" / "notebook.ipynb")
        try:
            inputs = await asyncio.to_thread(
                prepare_inputs,
                notebook,
                execution,
                folder / "inputs",
                backend.tables,
                repeat_samples=self._repeat_samples,
            )
        except InputError as error:
            return "errored", [("InputError", str(error))], {}
        execution = self._update(execution, inputs_at=backend.clock(), inputs=inputs)
        ending, errors = await self._run_notebook(execution)
        if ending == "timeout":
            return ending, errors, {}
        collector = await asyncio.to_thread(self._collect_outputs, notebook, execution)
        # Outputs that a failed notebook did not write are no further error.
        return ending, [*errors, *(collector.errors if ending == "completed" else ())], collector.files

    async def _run_notebook(self, execution: Execution) -> tuple[str, Errors]:
        folder = self._backend.execution_folder(execution.id)
        process = await NotebookProcess.start(
            folder / "work" / "notebook.ipynb",
            input_dir=folder / "inputs",
            output_dir=folder / "work" / "output",
            results=folder / "work" / "results",
        )
        try:
            async with asyncio.timeout(STEP_TIMEOUT):
                await process.wait_for("started")
            try:
                async with asyncio.timeout(execution.max_minutes * 60):
                    errors = await process.wait_for("ended")
            except TimeoutError:
                return "timeout", [("TimeoutError", f"Stopped after {execution.max_minutes:g} run minutes.")]
            self._update(execution, notebook_at=self._backend.clock())
            async with asyncio.timeout(STEP_TIMEOUT):
                await process.wait_for("stored")
            return "errored" if errors else "completed", [(name, message) for name, message in errors]
        except RunnerError as error:
            return "errored", [(error.name, error.message)]
        finally:
            await process.kill()

    def _collect_outputs(self, notebook: Notebook, execution: Execution) -> OutputCollector:
        backend, folder = self._backend, self._backend.execution_folder(execution.id)
        collector = OutputCollector(
            output_dir=folder / "work" / "output",
            results=folder / "work" / "results",
            collected=folder / "outputs",
            application_files=backend.folder / "application_files" / notebook.application_id,
            tables=backend.tables,
            values=template_values(notebook, execution),
        )
        for output in notebook.outputs:
            collector.collect(output)
        if backend.switches.unconfigured_results:
            collector.collect_results()
        return collector

    def _update(self, execution: Execution, **changes: Any) -> Execution:
        """Change the stored execution, which requests may have changed meanwhile; returns its new state."""
        with self._backend.lock:
            current = self._backend.execution(execution.notebook_id, execution.id)
            updated = replace(current or execution, **changes)
            if current is not None:
                self._backend.put(updated)
            return updated

    def _end(
        self, execution: Execution, ending: str, errors: Errors = (), outputs: dict[str, File] | None = None
    ) -> None:
        now = self._backend.clock()
        with self._backend.lock:
            current = self._backend.execution(execution.notebook_id, execution.id)
            if current is not None and current.canceling_at is not None:
                ended = max(now, current.canceling_at + self._backend.switches.cancel_delay)
                self._update(current, ending="canceled", ended_at=ended)
                return
        stored = now if outputs or ending == "completed" else None
        self._update(
            execution,
            ending=ending,
            ended_at=now,
            errors=tuple(errors),
            outputs=outputs or {},
            outputs_at=stored,
        )
