# SPDX-License-Identifier: Apache-2.0
"""A local Losant with a scripted notebook, an Airflow connection to it, and no proxies of the machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant._compat import AIRFLOW_3
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.hooks.losant import LosantHook
from tests.support.factories import BRIEF
from tests.support.masked_secrets import own_masked_secrets
from tests.support.surroundings import leave_surroundings

# Airflow's own server, client and test runner cause warnings; only those of the provider are tested here.
IN_AIRFLOW_DATABASE = (
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error:::airflow_provider_losant"),
    # Airflow 3.2 makes its API server anew for each task of such a DAG, which takes seconds of CPU time.
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("airflow-database"),
)
"""The marks of tests that run a DAG in Airflow's own database."""


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the proxies, certificates and passwords of the machine and of other tests out of the tests."""
    leave_surroundings(monkeypatch)
    with own_masked_secrets():
        yield


@pytest.fixture
def losant() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def notebook(losant: Emulator) -> str:
    """Return the id of a notebook whose executions take 30 ms."""
    made = losant.add_notebook("Report")
    losant.script(made, BRIEF)
    return made


@pytest.fixture
def losant_connection(losant: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the Airflow connection ``losant_default`` to the emulator; returns its id."""
    set_connection(monkeypatch, losant)
    return "losant_default"


@pytest.fixture
def running(losant: Emulator, notebook: str) -> str:
    """Return the id of an execution that is active until it is cancelled."""
    losant.script(notebook, Script(ending="hang"))
    return LosantHook().execute_notebook(notebook)


TaskLog = Callable[[], str]


@pytest.fixture
def task_log(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> TaskLog:
    """Return a function that returns the task log so far, however this Airflow version writes it."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.getLogger("airflow.task"), "propagate", True)
    return lambda: caplog.text or "".join(capsys.readouterr())


def operations(losant: Emulator) -> list[str]:
    """Return the operations of all requests that Losant received, oldest first."""
    return [request.operation for request in losant.requests]


def cancels(losant: Emulator) -> int:
    """Return how many requests to cancel an execution Losant received."""
    return sum(it.operation == "notebook.cancelExecution" for it in losant.requests)


def statuses(losant: Emulator, notebook: str) -> dict[str, str]:
    """Return the status of each execution of a notebook by its id, newest first."""
    return {it["id"]: it["status"] for it in losant.executions(notebook)}


def refuse_first_signature(losant: Emulator) -> None:
    """Let the first signed URL of a file be expired when it is used; those that follow are valid."""
    signer, verified = losant.backend.signer, []
    verify = type(signer).verify

    class Forgetful(type(signer)):  # type: ignore[misc]  # one that has forgotten the first address
        def verify(self, *given: Any) -> bool:
            verified.append(given)
            return len(verified) > 1 and verify(self, *given)

    losant.backend.signer = Forgetful(signer.secret)


def set_connection(
    monkeypatch: pytest.MonkeyPatch,
    losant: Emulator,
    conn_id: str = "losant_default",
    extra: dict[str, object] | str | None = None,
    **fields: object,
) -> None:
    """
    Make or change an Airflow connection to the emulator.

    :param extra: More keys of the connection's extra, or the text that it is.
    """
    if not isinstance(extra, str):
        extra = {"application_id": losant.application_id, "max_retries": 1, **(extra or {})}
    task_log = {
        "conn_type": "losant",
        "host": losant.url,
        "password": losant.token,
        "extra": extra,
        **fields,
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(task_log))


@contextmanager
def dag_bundle(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """Let this process find its DAGs in a folder; Airflow 2 needs no such setting."""
    manager = import_module("airflow.dag_processing.bundles.manager") if AIRFLOW_3 else None
    # Airflow 3.4 reads the list once in a process, in which other tests have lists of their own.
    forget = getattr(getattr(manager, "_load_bundle_config_snapshot", None), "cache_clear", lambda: None)
    # Airflow has a bundle of its own with the name example_dags.
    name = f"tests_{folder.name}"
    bundle = {"classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "name": name}
    bundles = json.dumps([{**bundle, "kwargs": {"path": str(folder)}}])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", bundles)
        forget()
        yield patch
    forget()
