# SPDX-License-Identifier: Apache-2.0
"""What a task does with the output files of an execution that has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.errors import InvalidArgument, LosantError, OutputError
from airflow_provider_losant.api.flows.outputs import OutputSelection, is_file_name
from airflow_provider_losant.api.flows.values import read_values
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookOutputError,
    permanent_errors_as_config_error,
)
from airflow_provider_losant.hooks.output_folder import OutputFolder

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import FileFlow
    from airflow_provider_losant.api.model import ExecutionRef

    RunFlow = Callable[[FileFlow[Any]], Any]
    """Runs a flow in the task's process, so that a kill ends it."""

VALUES_KEY = "values"
"""Where the values of the notebook are in the task's result, and the key of their own XCom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """
    The arguments about outputs, checked before anything is submitted.

    :param folder: Where all outputs are copied to; None if they are not.
    :param values_from: The JSON output that becomes part of the task's result; None if none does.
    """

    folder: OutputFolder | None = None
    values_from: str | None = None

    @classmethod
    def parse(
        cls,
        *,
        save_outputs_to: str | PathLike[str] | None = None,
        values_from: str | None = None,
        wait_for_completion: bool = True,
    ) -> OutputPlan:
        """
        Check the arguments, under their names as arguments of a task.

        :param values_from: Empty, as None, if the task reads no values: a template may render to that.
        :raises LosantConfigError: one is invalid, or the task does not wait for outputs.
        """
        given = {"save_outputs_to": save_outputs_to, "values_from": values_from or None}
        with permanent_errors_as_config_error():
            for field, value in given.items():
                if value is not None and not wait_for_completion:
                    raise InvalidArgument(
                        field, "needs wait_for_completion=True, as there are no outputs before the end"
                    )
            if values_from and not is_file_name(values_from):
                raise InvalidArgument("values_from", f"{values_from!r} is not the name of an output file")
            return cls(
                folder=None
                if save_outputs_to is None
                else OutputFolder.parse(save_outputs_to, field="save_outputs_to"),
                values_from=values_from or None,
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
