# SPDX-License-Identifier: Apache-2.0
"""
Begin a sensor's wait in the triggerer, without a worker before: what the DAG tells Airflow for it.

It is apart from the trigger because DAG files that ask for it load it whenever they are parsed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_losant._compat import build_start_trigger_args

TRIGGER = "airflow_provider_losant.triggers.sensor.LosantNotebookSensorTrigger"
DEFERRAL_MARGIN = 120.0


def deferral_margin(poll_interval: float) -> float:
    """Return by how many seconds Airflow's own timeout is to exceed ours."""
    return 2 * poll_interval + DEFERRAL_MARGIN


def start_trigger_args(*, poll_interval: float, timeout: float, **arguments: Any) -> Any:
    """
    Return what makes Airflow's scheduler begin a wait; None where it cannot.

    :param arguments: The trigger's others, as the DAG says them.
    """
    deferral_timeout = timeout + deferral_margin(poll_interval)
    times = {"poll_interval": poll_interval, "timeout": timeout, "deferral_timeout": deferral_timeout}
    return build_start_trigger_args(
        TRIGGER, arguments | times, "execute_complete", timedelta(seconds=deferral_timeout)
    )
