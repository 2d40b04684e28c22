# SPDX-License-Identifier: Apache-2.0
"""What a task does with the output files of an execution that has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.errors import InvalidArgument, LosantError
from airflow_provider_losant.api.flows.outputs import OutputSelection
from airflow_provider_losant.exceptions import NotebookOutputError, permanent_errors_as_config_error
from airflow_provider_losant.hooks.output_folder import OutputFolder

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import FileFlow
    from airflow_provider_losant.api.model import ExecutionRef

    RunFlow = Callable[[FileFlow[Any]], Any]
    """Runs a flow in the task's process, so that a kill ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPlan:
    """
    The arguments about outputs, checked before anything is submitted.

    :param folder: Where all outputs are copied to; None if they are not.
    """

    folder: OutputFolder | None = None

    @classmethod
    def parse(
        cls, *, save_outputs_to: str | PathLike[str] | None = None, wait_for_completion: bool = True
    ) -> OutputPlan:
        """
        Check the arguments, under their names as arguments of a task.

        :raises LosantConfigError: one is invalid, or the task does not wait for outputs.
        """
        if save_outputs_to is None:
            return cls()
        with permanent_errors_as_config_error():
            if not wait_for_completion:
                raise InvalidArgument(
                    "save_outputs_to",
                    "needs wait_for_completion=True, as there are no outputs before the end",
                )
            return cls(folder=OutputFolder.parse(save_outputs_to, field="save_outputs_to"))

    def deliver(self, ref: ExecutionRef, run: RunFlow, retries: int) -> dict[str, Any]:
        """
        Deliver the outputs of a completed execution, and return what they add to the task's result.

        If that fails, a retry finds the execution completed, and only delivers again.

        :param retries: How often a failed request is retried.
        :raises NotebookOutputError: the outputs could not be saved.
        """
        if self.folder is None:
            return {}
        try:
            return {"saved_outputs": run(self.folder.save(ref, OutputSelection(), retries))}
        except LosantError as error:
            raise NotebookOutputError(f"The outputs could not be saved: {error}") from error
