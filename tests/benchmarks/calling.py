# SPDX-License-Identifier: Apache-2.0
"""Calls from a worker, in a process of their own: ``python -m tests.benchmarks.calling ADDRESS FOLDER``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import certifi

from tests.benchmarks.peers import PROVIDERS
from tests.benchmarks.records import LOSANT, Address
from tests.benchmarks.waiting import Control

SESSION, HOOK, LOSANT_REST = "requests.Session", "LosantHook", "losant-rest"
ROUNDS = 30
CALLS = 10


def measure(address: Address, folder: Path) -> dict[str, float]:
    """
    Get the same notebook with each client in turn; return the CPU milliseconds of one call.

    :param folder: A temporary one.
    """
    # As many certificates as a client usually trusts, and the server's.
    bundle = folder / "bundle.pem"
    bundle.write_text(Path(certifi.where()).read_text() + Path(address.ca).read_text())
    with Control(address) as control:
        [run] = control.make_runs([0.0], is_spread=False)
    clients = _clients(address, str(bundle), run.notebook_id)
    for call in clients.values():
        call()
    # In turn, so that other processes of the machine affect all of them.
    spent = [{name: _milliseconds(call) for name, call in clients.items()} for _ in range(ROUNDS)]
    return {name: median(turn[name] for turn in spent) for name in clients}


def _milliseconds(call: Callable[[], object]) -> float:
    before = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - before) / CALLS * 1000


def _clients(address: Address, bundle: str, notebook_id: str) -> Mapping[str, Callable[[], Any]]:
    import requests
    from losant_rest import Client  # type: ignore[import-untyped]  # as it ships

    from airflow_provider_losant.hooks.losant import LosantHook

    session = requests.Session()
    session.verify = bundle
    session.headers["Authorization"] = f"Bearer {address.token}"
    url = f"{address.url}/applications/{address.application_id}/notebooks/{notebook_id}"
    connection = dict(PROVIDERS[LOSANT].connection(address))
    connection["extra"] = {**connection["extra"], "verify": bundle}
    os.environ["AIRFLOW_CONN_LOSANT_DEFAULT"] = json.dumps(connection)
    hook = LosantHook()
    # losant-rest trusts a certificate only in this way.
    os.environ["REQUESTS_CA_BUNDLE"] = bundle
    theirs = Client(auth_token=address.token, url=address.url).notebook
    return {
        SESSION: lambda: session.get(url, timeout=30).json(),
        HOOK: lambda: hook.get_notebook(notebook_id),
        LOSANT_REST: lambda: theirs.get(applicationId=address.application_id, notebookId=notebook_id),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Address(**json.loads(sys.argv[1])), Path(sys.argv[2]))))
