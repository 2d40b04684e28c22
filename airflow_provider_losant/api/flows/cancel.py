# SPDX-License-Identifier: Apache-2.0
"""Ask Losant to cancel an execution."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Literal

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import BadRequest, LosantError, NotFound
from airflow_provider_losant.api.flows.retry import Jitter, call_with_retry
from airflow_provider_losant.api.flows.steps import Flow, LogLine

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import ExecutionRef

CancelResult = Literal["requested", "not_needed", "failed"]


def cancel(
    ref: ExecutionRef, why: str, *, retries: int = 0, jitter: Jitter = random.uniform
) -> Flow[CancelResult]:
    """
    Ask Losant to cancel an execution; one that has ended, or that Losant does not know, needs no cancelling.

    :param why: The reason, for the log.
    :return: What came of it. A failure is logged, not raised, because the caller reports its own result.
    """
    try:
        yield from call_with_retry(endpoints.cancel_execution(ref), retries, jitter)
    except (NotFound, BadRequest) as error:
        yield LogLine(f"{error}; the {ref} does not need to be cancelled")
        return "not_needed"
    except LosantError as error:
        yield LogLine(
            f"{error}; the {ref} could not be cancelled and may still use run minutes", logging.ERROR
        )
        return "failed"
    yield LogLine(f"Asked Losant to cancel the {ref}, because {why}")
    return "requested"
