# SPDX-License-Identifier: Apache-2.0
"""
Airflow raises in a signal handler, at any point of the running code, when a task's time is over.

That must neither stop the process for good nor damage the connection pool.
"""

from __future__ import annotations

import queue
import sys
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.hooks.losant import LosantHook

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.emulator import Emulator

pytestmark = [pytest.mark.usefixtures("losant_connection"), pytest.mark.timeout(120, method="thread")]

LOCKING = {queue.__file__, threading.__file__}
"""Modules whose locks stay locked if an exception is raised just after they were taken."""
ENOUGH = 5.0
"""Seconds for a request to a host on loopback."""


class Over(BaseException):
    """Replaces the exception that Airflow's signal handler raises."""


def poll(application_id: str, notebook: str) -> Flow[Any]:
    return (yield endpoints.get_notebook(application_id, notebook))


class Interruption:
    """A trace function that raises at one of the points of a request at which a lock may be taken."""

    def __init__(self, point: int) -> None:
        self.left = point
        self.is_raised = False

    def __call__(self, frame: Any, event: str, _: object) -> Any:
        if frame.f_code.co_filename in LOCKING and not self.is_raised:
            self.left -= 1
            if self.left < 0:
                self.is_raised = True
                raise Over
        return self


def interrupt_at(point: int, losant: Emulator, notebook: str) -> bool:
    """Interrupt a second request at a point, send a third, and return whether that point was reached."""
    client = LosantHook().client
    client.run(poll(losant.application_id, notebook))
    interruption = Interruption(point)

    def run() -> None:
        sys.settrace(interruption)
        try:
            client.run(poll(losant.application_id, notebook))
        except Over:
            pass
        finally:
            sys.settrace(None)
        client.run(poll(losant.application_id, notebook))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ENOUGH)
    assert not thread.is_alive(), f"the process waits for good after an exception at point {point}"
    return interruption.is_raised


def test_an_exception_at_any_point_of_a_request_does_not_block_the_process(
    losant: Emulator, notebook: str
) -> None:
    for point in count():
        if not interrupt_at(point, losant, notebook):
            break
