# SPDX-License-Identifier: Apache-2.0
"""Secrets are stored nowhere: not in a debug log, not in the database, not after an error."""

from __future__ import annotations

import re
from base64 import b64encode
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from airflow_provider_losant.emulator import Fault, Script
from tests.journeys.conftest import PROXY_PASSWORD
from tests.journeys.secret_scan import places_of, secrets_pattern, stored_by
from tests.support.journey import ENDLESS, Journey, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.local_airflow import LocalAirflow
    from tests.support.network import Proxy

FILES = {
    "report.csv": b"site,kwh\n",
    "result.error.log": b"Traceback (most recent call last):\nValueError: boom\n",
}
GOOD = Script(notebook=0.1, files=FILES)
BAD = Script(notebook=0.1, files=FILES, ending="errored", errors=(("ValueError", "boom"),))
PASSWORDS = (
    PROXY_PASSWORD,
    quote(PROXY_PASSWORD, safe=""),
    b64encode(f"airflow:{PROXY_PASSWORD}".encode()).decode(),
)
"""That of the proxy: as it is, in a URL, and in a header."""
FAULTS = (
    "server_error",
    "html",
    "truncated",
    "reset_before",
    "reset_after",
    "rate_limited",
    "redirect",
    "unauthorized",
)
VARIANTS = {
    "saving": (GOOD, "success"),
    "deferred": (BAD, "failed"),
    "waiting": (BAD, "failed"),
    "retrying_deferred": (GOOD, "success"),
    "limited": (ENDLESS, "failed"),
    "awaiting": (GOOD, "success"),
    "sweep": (GOOD, "success"),
}
"""What executions of each variant do, and how its DAG run ends."""


def run_all(airflow: LocalAirflow, journeys: dict[str, Journey]) -> None:
    """Run all variants, with and without faults, and test connections; wait for the ends."""
    for name, journey in journeys.items():
        script, _ = VARIANTS[name]
        for kind in FAULTS if name in {"waiting", "deferred", "retrying_deferred"} else ():
            journey.losant.inject("notebook.logs", Fault(kind))  # type: ignore[arg-type]  # one of its kinds
        journey.start(name, script, waits=False)
        fields = {"conn_type": "losant", "host": journey.losant.url, "connection_id": journey.conn_id}
        for token in (journey.losant.token, journey.losant.add_token(expired=True)):
            airflow.request("POST", "/connections/test", json={**fields, "password": token})
    for name, journey in journeys.items():
        assert journey.wait_for_end() == VARIANTS[name][1], name


def has_request(proxy: Proxy, url: str, first: int) -> bool:
    """Return whether the proxy has got a request to a URL, not counting its first requests."""
    return any(url in it.first_line for it in proxy.requests[first:])


def wait_through_a_proxy_that_refuses(proxy: Proxy, journeys: dict[str, Journey]) -> None:
    """Let polls of tasks that wait be refused by the proxy for a while, and the tasks then succeed."""
    for variant, journey in journeys.items():
        host = f"{variant}.losant.test"
        proxy.names[host] = ("127.0.0.1", urlsplit(journey.losant.url).port or 0)
        journey.connect({"allow_http": True}, host=f"http://{host}")
        journey.start(variant, ENDLESS)
        journey.wait_for_poll()
    for status in (407, 403, 502):
        proxy.refuse, refused = status, len(proxy.requests)
        for variant, journey in journeys.items():
            is_refused = partial(has_request, proxy, f"http://{variant}.losant.test", refused)
            journey.wait_until(is_refused, f"a poll that gets {status}")
    proxy.refuse = None
    for journey in journeys.values():
        journey.let_it_complete()
        assert journey.wait_for_end() == "success"


@pytest.mark.xdist_group("stopped-airflow")
def test_no_token_no_password_of_a_proxy_and_no_signed_url_is_left_in_a_debug_log_or_in_the_database(
    own_airflow: LocalAirflow, proxy: Proxy, tmp_path: Path
) -> None:
    airflow = own_airflow
    with ExitStack() as ending:
        journeys = {
            name: ending.enter_context(Journey(running(airflow), tmp_path / name)) for name in VARIANTS
        }
        still = ending.enter_context(Journey(running(airflow), tmp_path / "still"))
        still.start("deferred", ENDLESS)  # so that there is a trigger in the database
        still.wait_for_state("deferred")
        still.wait_for_poll()

        run_all(airflow, journeys)
        proxied = {
            name: ending.enter_context(Journey(running(airflow), tmp_path / f"proxied-{name}"))
            for name in ("waiting", "deferred")
        }
        wait_through_a_proxy_that_refuses(proxy, proxied)

        tokens = {
            token
            for journey in (*journeys.values(), *proxied.values(), still)
            for token in journey.losant.backend.tokens
        }
        runs = [run["id"] for journey in (*journeys.values(), still) for run in journey.executions]
        stored = list(stored_by(airflow))
    assert len(tokens) >= 2 * len(VARIANTS)
    assert places_of(secrets_pattern({*tokens, *PASSWORDS}), stored) == []
    for run in runs:  # the search finds the ids of executions, which are no secrets
        assert {"logs", "table"} <= {re.split(r"[/ ]", place)[0] for place in places_of(run, stored)}
