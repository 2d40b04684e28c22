# SPDX-License-Identifier: Apache-2.0
"""
The ``start_trigger_args`` of a sensor whose wait starts in the triggerer, without a worker.

It is separate from the trigger's module, because DAG files that use it import it whenever they are parsed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_losant._compat import build_start_trigger_args

TRIGGER = "airflow_provider_losant.triggers.sensor.LosantNotebookSensorTrigger"
DEFERRAL_MARGIN = 120.0
"""Seconds."""


def deferral_margin(poll_interval: float) -> float:
    """Return by how many seconds Airflow's timeout of a deferral exceeds the wait's own deadline."""
    return 2 * poll_interval + DEFERRAL_MARGIN


def start_trigger_args(*, poll_interval: float, timeout: float, **arguments: Any) -> Any:
    """
    Return the ``start_trigger_args`` with which Airflow's scheduler starts a wait; None if it cannot.

    :param poll_interval: Seconds between polls.
    :param timeout: Seconds that the wait may take.
    :param arguments: The trigger's other arguments, as in the DAG.
    """
    deferral_timeout = timeout + deferral_margin(poll_interval)
    times = {"poll_interval": poll_interval, "timeout": timeout, "deferral_timeout": deferral_timeout}
    return build_start_trigger_args(
        TRIGGER, arguments | times | {"stored": True}, "execute_complete", timedelta(seconds=deferral_timeout)
    )
