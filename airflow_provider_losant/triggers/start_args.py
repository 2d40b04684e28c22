# SPDX-License-Identifier: Apache-2.0
"""
The ``start_trigger_args`` of a sensor whose wait starts in the triggerer, without a worker.

It is separate from the trigger's module, because DAG files that use it import it whenever they are parsed.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from airflow_provider_losant._compat import renders_trigger_arguments

TRIGGER = "airflow_provider_losant.triggers.sensor.LosantNotebookSensorTrigger"
DEFERRAL_MARGIN = 120.0
"""Seconds."""


def deferral_margin(poll_interval: float) -> float:
    """Return by how many seconds Airflow's timeout of a deferral exceeds the wait's own deadline."""
    return 2 * poll_interval + DEFERRAL_MARGIN


def start_trigger_args(*, poll_interval: float, timeout: float, **arguments: Any) -> Any:
    """
    Return the ``start_trigger_args`` with which Airflow's scheduler starts a wait; None if it cannot.

    Only JSON can be stored, and its strings be rendered. A plain XCom reference has a string form, a
    transformed one (``.map``) has not.

    :param poll_interval: Seconds between polls.
    :param timeout: Seconds that the wait may take.
    :param arguments: The trigger's other arguments, as in the DAG.
    """
    if not renders_trigger_arguments():  # before Airflow 3.3
        return None
    from airflow.triggers.base import StartTriggerArgs

    deferral_timeout = timeout + deferral_margin(poll_interval)
    times = {"poll_interval": poll_interval, "timeout": timeout, "deferral_timeout": deferral_timeout}
    try:
        stored = json.loads(json.dumps(arguments | times | {"stored": True}, default=_text_form))
    except (TypeError, ValueError):
        return None
    return StartTriggerArgs(
        trigger_cls=TRIGGER,
        trigger_kwargs=stored,
        next_method="execute_complete",
        timeout=timedelta(seconds=deferral_timeout),
    )


def _text_form(value: object) -> str:
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    if isinstance(value, PlainXComArg):
        return str(value)
    raise TypeError
