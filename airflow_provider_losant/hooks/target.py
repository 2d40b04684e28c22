# SPDX-License-Identifier: Apache-2.0
"""Resolve a sensor's arguments to the execution to wait for, in a worker and in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import losant_id
from airflow_provider_losant.api.flows.wait import Target
from airflow_provider_losant.api.timestamps import parse_timestamp
from airflow_provider_losant.exceptions import permanent_errors_as_config_error

if TYPE_CHECKING:
    from airflow_provider_losant.hooks.losant import LosantHook


def resolve_target(hook: LosantHook, *, notebook_id: str, execution_id: str | None, since: object) -> Target:
    """
    Return the execution to wait for.

    :param execution_id: The execution; None for the first one to end of those queued since ``since``.
    :param since: Datetime, ISO-8601 text or epoch *milliseconds*.
    :raises LosantConfigError: an argument is missing or invalid.
    """
    with permanent_errors_as_config_error():
        if execution_id is not None:
            return Target.of(hook.execution_ref(notebook_id, execution_id))
        if since is None:
            raise InvalidArgument("execution_id", "is missing, and so is since; the sensor needs one of them")
        return Target(
            application_id=hook.resolve_application_id(),
            notebook_id=losant_id(notebook_id, field="notebook_id"),
            since=parse_timestamp(since, field="since").timestamp(),
        )
