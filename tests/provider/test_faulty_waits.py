# SPDX-License-Identifier: Apache-2.0
"""Waits continue while the network, a gateway or the secrets backend fails for a while, in both modes."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.emulator import Script
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import set_connection
from tests.provider.tasks import BOTH_MODES, Task
from tests.support.network import Network, NetworkFault
from tests.support.processes import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_losant.emulator import Emulator

SHORT = Script(notebook=1.5)


def run(notebook: str, **options: Any) -> Any:
    settings = {"poll_interval": 0.05, "max_poll_outage": 20.0} | options
    return Task(
        lambda: LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **settings)
    ).run()


def requests_to(losant: Emulator, operation: str, *statuses: int) -> int:
    wanted = [it for it in losant.requests if it.operation == f"notebook.{operation}"]
    return len([it for it in wanted if not statuses or it.status in statuses])


@pytest.fixture
def network(losant: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    with Network(losant.url, "tls through proxy") as between:
        for name, value in between.environment.items():
            monkeypatch.setenv(name, value)
        set_connection(
            monkeypatch, losant, host=between.base_url, extra={"application_id": losant.application_id}
        )
        yield between


@pytest.mark.any_airflow
@BOTH_MODES
@pytest.mark.parametrize("kind", ["close_handshake", "alert_handshake", "plain_http", "reset"])
def test_a_handshake_that_fails_does_not_end_the_wait(
    losant: Emulator, notebook: str, network: Network, deferrable: bool, kind: Any
) -> None:
    losant.script(notebook, SHORT)
    network.balancer.inject("notebook.logs", NetworkFault("close_after_response"), times=2)

    def break_connections() -> None:
        wait_for(lambda: requests_to(losant, "logs"), what="a poll", timeout=20, every=0.01)
        network.balancer.inject("connect", NetworkFault(kind), times=2)

    breaking = threading.Thread(target=break_connections)
    breaking.start()
    result = run(notebook, deferrable=deferrable)
    breaking.join()

    assert result["status"] == "completed"
    assert requests_to(losant, "execute") == 1


@pytest.mark.any_airflow
@BOTH_MODES
@pytest.mark.parametrize("kind", ["alert", "close", "reset", "html", "close_in_head", "close_in_body"])
def test_a_poll_that_gets_something_else_does_not_end_the_wait(
    losant: Emulator, notebook: str, network: Network, deferrable: bool, kind: Any
) -> None:
    losant.script(notebook, SHORT)
    network.balancer.inject("notebook.logs", NetworkFault(kind), seconds=0.7)

    result = run(notebook, deferrable=deferrable)

    assert result["status"] == "completed"
    assert requests_to(losant, "execute") == 1


@BOTH_MODES
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_does_not_end_the_wait_while_the_connection_cannot_be_read(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, deferrable: bool, status: int
) -> None:
    old = losant.add_token()
    losant.script(notebook, SHORT)
    set_connection(monkeypatch, losant, password=old)

    def rotate() -> None:
        wait_for(lambda: requests_to(losant, "logs"), what="a poll", timeout=20, every=0.01)
        monkeypatch.delenv("AIRFLOW_CONN_LOSANT_DEFAULT")
        if status == 401:
            del losant.backend.tokens[old]
        else:
            losant.backend.tokens[old] = replace(losant.backend.tokens[old], scopes=("notebook.get",))
        wait_for(
            lambda: requests_to(losant, "logs", status) >= 2, what="two refusals", timeout=20, every=0.01
        )
        set_connection(monkeypatch, losant)

    rotating = threading.Thread(target=rotate)
    rotating.start()
    result = run(notebook, deferrable=deferrable)
    rotating.join()

    assert result["status"] == "completed"
    assert requests_to(losant, "execute") == 1


@pytest.mark.any_airflow
@BOTH_MODES
def test_a_gateways_page_after_a_submission_that_took_effect_leads_to_one_execution(
    losant: Emulator, notebook: str, network: Network, deferrable: bool
) -> None:
    losant.script(notebook, SHORT)
    network.balancer.inject("notebook.execute", NetworkFault("html", processed=True, status=504))
    network.balancer.inject("notebook.logs", NetworkFault("html", status=200), seconds=2.0)

    result = run(notebook, deferrable=deferrable)

    assert result["status"] == "completed"
    assert [it["id"] for it in losant.executions(notebook)] == [result["execution_id"]]
