# SPDX-License-Identifier: Apache-2.0
"""A long execution log, and many waits that get it in one poll."""

from __future__ import annotations

from typing import Any

from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows.poll_schedule import PollSchedule
from airflow_provider_losant.api.flows.polling import poll_once
from tests.support.factories import APPLICATION_ID, CREATED_AT, NOTEBOOK_ID
from tests.unit.api.flow_driver import FlowDriver, mean_delay

ENTRIES, WAITS = 2_000, 200
NOW = CREATED_AT + ENTRIES + 60


def poll(entries: list[Any], *subscribers: Any) -> FlowDriver:
    """Poll once for all subscribers, with a log of these entries; return the driver that did it."""
    schedule = PollSchedule(APPLICATION_ID, NOTEBOOK_ID, mean_delay)
    for subscriber in subscribers:
        schedule.join(subscriber)
    driver = FlowDriver([ExecutionLog(entries)], now=NOW)
    while not driver.drive(poll_once(schedule, driver.clock)):
        pass  # the first limit was too low
    return driver
