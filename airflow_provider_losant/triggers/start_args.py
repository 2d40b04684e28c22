# SPDX-License-Identifier: Apache-2.0
"""
Begin a sensor's wait in the triggerer, without a worker before: what the DAG tells Airflow for it.

It is apart from the trigger because DAG files that ask for it load it whenever they are parsed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_losant._compat import start_in_triggerer

TRIGGER = "airflow_provider_losant.triggers.sensor.LosantNotebookSensorTrigger"
NET_MARGIN = 120.0


def net_margin(poll_interval: float) -> float:
    """Return by how many seconds Airflow's own timeout is to exceed ours."""
    return 2 * poll_interval + NET_MARGIN


def starting(*, poll_interval: float, timeout: float, **arguments: Any) -> Any:
    """
    Return what makes Airflow's scheduler begin a wait; None where it cannot.

    :param arguments: The trigger's others, as the DAG says them.
    """
    net = timeout + net_margin(poll_interval)
    times = {"poll_interval": poll_interval, "timeout": timeout, "net": net}
    return start_in_triggerer(TRIGGER, arguments | times, "execute_complete", timedelta(seconds=net))
