# SPDX-License-Identifier: Apache-2.0
"""
Whether a request was sent is a fact: directly, with TLS, behind a proxy, and in a tunnel.

Each fault of the network meets one request; both clients have to say truly whether Losant may have processed
it, and a submission has to lead to one execution.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import LosantError, TlsError
from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.payloads import compact_json, execution_options
from airflow_provider_losant.api.settings import Settings
from airflow_provider_losant.emulator import Emulator
from tests.support.client_kinds import KINDS, Driver, steps
from tests.support.factories import owner
from tests.support.network import Network, NetworkFault

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.start_policy import Blocked
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.flows.submission import Started
    from tests.support.network.network import NetworkKind

WAYS: tuple[NetworkKind, ...] = ("direct", "tls", "proxy", "tls through proxy")
TIMEOUT, PATIENT = 1.0, 10.0
"""Seconds for a request whose fault only a timeout ends, and for any other, however busy the machine is."""
ENDLESS = {"hang", "drip_head", "drip_body", "continue_forever"}
"""The kinds of faults that only a timeout ends."""

OF_A_CONNECTION = [
    NetworkFault("close"),
    NetworkFault("reset"),
    NetworkFault("hang"),
    NetworkFault("close_handshake"),
    NetworkFault("alert_handshake"),
]
BEFORE = [NetworkFault("close_after_head")]
IN_PLACE_OF_THE_RESPONSE = [
    NetworkFault(kind, processed=processed, seconds=0.05 if "drip" in kind or "for" in kind else 5.0)
    for kind in (
        "close", "reset", "alert", "hang", "html", "drip_head", "drip_body",
        "continue_forever", "close_in_head", "close_in_body",
    )
    for processed in (True, False)
]  # fmt: skip


@pytest.fixture(scope="module")
def losant() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module", params=WAYS)
def between(request: pytest.FixtureRequest, losant: Emulator) -> Iterator[Network]:
    with Network(losant.url, request.param) as network:
        yield network


@pytest.fixture
def network(between: Network, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    for name, value in between.environment.items():
        monkeypatch.setenv(name, value)
    between.balancer.requests.clear()
    yield between
    between.balancer.clear_faults()


@pytest.fixture
def notebook(losant: Emulator) -> str:
    return losant.add_notebook("Report")


@pytest.fixture(params=KINDS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(request.param)


def title(fault: NetworkFault) -> str:
    return f"{fault.kind}{', processed' * fault.processed}"


def settings_of(network: Network, losant: Emulator, fault: NetworkFault | None = None) -> Settings:
    timeout = TIMEOUT if fault is not None and fault.kind in ENDLESS else PATIENT
    return Settings(token=losant.token, base_url=network.base_url, timeout=timeout)


def failure(settings: Settings, losant: Emulator, driver: Driver, notebook: str) -> LosantError:
    """Return the error of a request to execute the notebook."""
    execute = endpoints.execute(losant.application_id, notebook, {})
    with pytest.raises(LosantError) as caught:
        driver.call(settings, execute)
    return caught.value


@pytest.mark.parametrize("fault", OF_A_CONNECTION, ids=title)
def test_a_connection_that_fails_once_may_be_tried_again(
    losant: Emulator, network: Network, driver: Driver, notebook: str, fault: NetworkFault
) -> None:
    network.balancer.inject("connect", fault)

    error = failure(settings_of(network, losant, fault), losant, driver, notebook)

    assert error.is_transient
    assert losant.executions(notebook) == []
    if network.kind.startswith("tls"):
        assert not error.may_have_taken_effect


@pytest.mark.parametrize("fault", [*BEFORE, *IN_PLACE_OF_THE_RESPONSE], ids=title)
def test_a_request_in_place_of_whose_response_something_else_comes_may_have_taken_effect(
    losant: Emulator, network: Network, driver: Driver, notebook: str, fault: NetworkFault
) -> None:
    network.balancer.inject("notebook.execute", fault)

    error = failure(settings_of(network, losant, fault), losant, driver, notebook)

    assert not isinstance(error, TlsError)
    assert error.is_transient
    assert error.may_have_taken_effect
    assert len(losant.executions(notebook)) == int(fault.processed)


@pytest.mark.parametrize("fault", [*BEFORE, *IN_PLACE_OF_THE_RESPONSE], ids=title)
def test_a_submission_whose_response_is_lost_leads_to_one_execution(
    losant: Emulator, network: Network, driver: Driver, notebook: str, fault: NetworkFault
) -> None:
    network.balancer.inject("notebook.execute", fault)

    started = driver.run(settings_of(network, losant, fault), submitting(losant, notebook))

    assert [it["id"] for it in losant.executions(notebook)] == [started.ref.execution_id]
    assert (started.execution is not None) is fault.processed


@pytest.mark.parametrize("fault", OF_A_CONNECTION, ids=title)
def test_a_submission_whose_connection_fails_leads_to_one_execution(
    losant: Emulator, network: Network, driver: Driver, notebook: str, fault: NetworkFault
) -> None:
    network.balancer.inject("connect", fault)

    started = driver.run(settings_of(network, losant, fault), submitting(losant, notebook))

    assert [it["id"] for it in losant.executions(notebook)] == [started.ref.execution_id]


def test_a_server_without_tls_is_named_so(losant: Emulator, driver: Driver, notebook: str) -> None:
    with Network(losant.url, "tls") as network:
        network.balancer.inject("connect", NetworkFault("plain_http"))
        with pytest.raises(LosantError) as caught:
            driver.call(
                Settings(token=losant.token, base_url=network.base_url, verify=False),
                endpoints.get_notebook(losant.application_id, notebook),
            )

    assert "the server speaks plain HTTP; write http:// in host" in str(caught.value)
    assert caught.value.is_transient


def test_the_responses_of_losant_itself_are_the_same_through_every_network(
    losant: Emulator, network: Network, driver: Driver, notebook: str
) -> None:
    get = endpoints.get_notebook(losant.application_id, notebook)

    assert driver.run(settings_of(network, losant), steps(get, get)).id == notebook
    assert [it.operation for it in network.balancer.requests] == ["notebook.get", "notebook.get"]


def test_only_a_certificate_that_is_not_trusted_is_a_permanent_error(
    losant: Emulator, network: Network, driver: Driver, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    get = endpoints.get_notebook(losant.application_id, notebook)

    if network.kind.startswith("tls"):
        with pytest.raises(TlsError, match="certificate was not accepted"):
            driver.call(settings_of(network, losant), get)
    else:
        assert driver.call(settings_of(network, losant), get).id == notebook


OWNER = owner()


def submitting(losant: Emulator, notebook: str) -> Flow[Started | Blocked]:
    context = execution_options(template_context=compact_json(OWNER.add_marker({"for": notebook})))
    submission = Submission(
        application_id=losant.application_id, notebook_id=notebook, options=context, owner=OWNER
    )
    policy = SubmitPolicy(retries=3, max_log_lag=0.5, max_poll_outage=20.0, back_to=time.time() - 86_400.0)
    return submit_once(submission, policy, is_retry=False, jitter=lambda low, _: low)
