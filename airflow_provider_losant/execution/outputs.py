# SPDX-License-Identifier: Apache-2.0
"""What a task does with the output files of an execution that has ended."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.errors import InvalidArgument, LosantError, OutputError
from airflow_provider_losant.api.fields import file_name, is_given, one_line
from airflow_provider_losant.api.flows.outputs import (
    OutputSelection,
    output_configuration,
    read_tail,
)
from airflow_provider_losant.api.flows.values import read_values
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookOutputError,
    permanent_errors_as_config_error,
)
from airflow_provider_losant.hooks.output_folder import OutputFolder

if TYPE_CHECKING:
    from airflow_provider_losant.api.defaults import SaveOutputsWhen
    from airflow_provider_losant.api.flows.steps import FileFlow, Log
    from airflow_provider_losant.api.model import ExecutionRef

    RunFlow = Callable[[FileFlow[Any]], Any]
    """Runs a flow in the task's process, so that a kill ends it."""

VALUES_KEY = "values"
"""Where the values of the notebook are in the task's result, and the key of their own XCom."""
PRINTED_OUTPUT = "result.log"
MAX_PRINTED = 64 * 1024
"""Bytes of the printed output that a task log gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """
    The arguments about outputs, checked before anything is submitted.

    :param folder: Where all outputs are copied to; None if they are not.
    :param save_failed: Also those of an execution that ended without completing.
    :param values_from: The JSON output that becomes part of the task's result; None if none does.
    :param log_output: Write the end of the printed output to the task log.
    """

    folder: OutputFolder | None = None
    save_failed: bool = False
    values_from: str | None = None
    log_output: bool = False

    @classmethod
    def parse(
        cls,
        *,
        save_outputs_to: str | PathLike[str] | None = None,
        save_outputs_when: SaveOutputsWhen = "success",
        values_from: str | None = None,
        log_output: bool = False,
        wait_for_completion: bool = True,
        is_opened: bool = True,
    ) -> OutputPlan:
        """
        Check the arguments, under their names as arguments of a task.

        A template that renders to an empty text or to ``None`` counts as not given.

        :param is_opened: Connect to the storage of the folder now, and not only for the first file.
        :raises LosantConfigError: one is invalid, or the task does not wait for outputs.
        :raises NotebookOutputError: Airflow could not connect to the storage.
        """
        with permanent_errors_as_config_error():
            given = {
                "save_outputs_to": is_given(save_outputs_to),
                "values_from": is_given(values_from),
                "log_output": log_output,
            }
            for field, is_wanted in given.items():
                if is_wanted and not wait_for_completion:
                    raise InvalidArgument(
                        field, "needs wait_for_completion=True, as there are no outputs before the end"
                    )
            return cls(
                folder=OutputFolder.parse(save_outputs_to, field="save_outputs_to", is_opened=is_opened)
                if save_outputs_to is not None and given["save_outputs_to"]
                else None,
                save_failed=save_outputs_when == "always",
                values_from=file_name(values_from, field="values_from") if given["values_from"] else None,
                log_output=log_output,
            )

    def deliver(self, ref: ExecutionRef, run: RunFlow, retries: int) -> dict[str, Any]:
        """
        Deliver the outputs of a completed execution, and return what they add to the task's result.

        If that fails, a retry finds the execution completed, and only delivers again.

        :param retries: How often a failed request is retried.
        :raises NotebookOutputError: the outputs could not be saved or read.
        :raises LosantConfigError: the values are missing, too large, or no JSON; reading them again would
            not change that.
        """
        return self._save(ref, run, retries) | self._read_values(ref, run, retries)

    def _save(self, ref: ExecutionRef, run: RunFlow, retries: int) -> dict[str, Any]:
        if self.folder is None:
            return {}
        try:
            return {"saved_outputs": run(self.folder.save(ref, OutputSelection(), retries))}
        except LosantError as error:
            raise NotebookOutputError(f"The outputs could not be saved: {error}") from error

    def _read_values(self, ref: ExecutionRef, run: RunFlow, retries: int) -> dict[str, Any]:
        if self.values_from is None:
            return {}
        try:
            return {VALUES_KEY: run(read_values(ref, self.values_from, retries))}
        except OutputError as error:
            raise LosantConfigError(f"values_from: {error}") from error
        except LosantError as error:
            raise NotebookOutputError(f"The values could not be read: {error}") from error

    def deliver_after_failure(self, ref: ExecutionRef, run: RunFlow, retries: int, log: Log) -> None:
        """
        Save the outputs of an execution that ended without completing, if that is wanted.

        Only the notebook's own error counts then, so whatever goes wrong is a warning in the task log.

        :param retries: How often a failed request is retried.
        :param log: The task's log: a logger's ``log``.
        """
        if self.folder is None or not self.save_failed:
            return
        folder = replace(self.folder, path=self.folder.path / "failed" / ref.execution_id)
        with _only_warning(f"The outputs of the failed execution could not be saved to {folder.path}", log):
            if run(folder.save(ref, OutputSelection(), retries)):
                log(logging.INFO, "The outputs of the failed execution are in %s", folder.path)
            else:
                log(
                    logging.WARNING,
                    "The failed execution has no outputs to save. Losant keeps the executed notebook if the "
                    "notebook's outputs contain %s",
                    output_configuration("result.ipynb"),
                )

    def write_printed_output(self, ref: ExecutionRef, run: RunFlow, retries: int, log: Log) -> None:
        """
        Write the end of an ended execution's printed output to the task log, if that is wanted.

        Whatever goes wrong is a warning in the task log.

        :param retries: How often a failed request is retried.
        :param log: The task's log: a logger's ``log``.
        """
        if not self.log_output:
            return
        with _only_warning("The printed output could not be read", log):
            text = run(read_tail(ref, PRINTED_OUTPUT, MAX_PRINTED, retries)).strip("\n")
            if not text:
                log(logging.INFO, "The notebook printed nothing")
                return
            # Airflow's markers, which both its UIs only recognise in lines of this level.
            log(logging.INFO, "::group::Printed output of execution %s", ref.execution_id)
            log(logging.INFO, "%s", _MARKER.sub(r":\1group:", text))
            log(logging.INFO, "::endgroup::")


_MARKER = re.compile(r"::(end)?group::|##\[(end)?group\]")


@contextmanager
def _only_warning(problem: str, log: Log) -> Iterator[None]:
    """Log an error as a warning. What ends the task, such as a kill or its time limit, is no error here."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a storage may raise anything
        log(logging.WARNING, "%s: %s", problem, one_line(error))
