# SPDX-License-Identifier: Apache-2.0
"""The providers whose triggers are measured: their triggers, connections and expected events."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.benchmarks.records import BARE, DATABRICKS, DBT_CLOUD, LOSANT, Address, Case, Run

A_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """
    One provider's trigger.

    :param connection: The fields of its Airflow connection, which has the provider's default id.
    :param trigger: Returns the trigger that waits for a run.
    :param is_right: Returns whether an event is that of a successful run.
    """

    connection: Callable[[Address], Mapping[str, Any]]
    trigger: Callable[[Case, Address, Run], Any]
    is_right: Callable[[Mapping[str, Any]], bool]


def _losant(case: Case, address: Address, run: Run) -> Any:
    from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger

    return LosantNotebookExecutionTrigger(
        losant_conn_id="losant_default",
        application_id=address.application_id,
        notebook_id=run.notebook_id,
        execution_id=run.execution_id,
        since=run.made_at,
        poll_interval=case.interval,
        deadline=time.time() + A_DAY,
        max_poll_outage=A_DAY,
    )


def _dbt_cloud(case: Case, address: Address, run: Run) -> Any:
    from airflow.providers.dbt.cloud.triggers.dbt import DbtCloudRunJobTrigger

    return DbtCloudRunJobTrigger(
        conn_id="dbt_cloud_default",
        run_id=run.number,
        end_time=time.time() + A_DAY,
        poll_interval=case.interval,
        account_id=1,
    )


def _databricks(case: Case, address: Address, run: Run) -> Any:
    from airflow.providers.databricks.triggers.databricks import DatabricksExecutionTrigger

    return DatabricksExecutionTrigger(
        run_id=run.number,
        databricks_conn_id="databricks_default",
        polling_period_seconds=case.interval,
    )


def _bare(case: Case, address: Address, run: Run) -> Any:
    from tests.benchmarks.bare import BareLoop

    return BareLoop(case, address, run)


def _host(address: Address) -> str:
    return urlsplit(address.url).netloc


PROVIDERS: Mapping[str, Provider] = {
    LOSANT: Provider(
        connection=lambda address: {
            "conn_type": "losant",
            "host": address.url,
            "password": address.token,
            "extra": {"application_id": address.application_id},
        },
        trigger=_losant,
        is_right=lambda event: event["ending"] == "ended" and event["is_success"],
    ),
    BARE: Provider(connection=lambda _: {}, trigger=_bare, is_right=lambda entry: bool(entry["outputInfo"])),
    DBT_CLOUD: Provider(
        connection=lambda address: {
            "conn_type": "dbt_cloud",
            "host": _host(address),
            "login": "1",
            "password": address.token,
        },
        trigger=_dbt_cloud,
        is_right=lambda event: event["status"] == "success",
    ),
    DATABRICKS: Provider(
        connection=lambda address: {
            "conn_type": "databricks",
            "schema": urlsplit(address.url).scheme,
            "host": urlsplit(address.url).hostname,
            "port": urlsplit(address.url).port,
            "password": address.token,
        },
        trigger=_databricks,
        is_right=lambda event: json.loads(event["run_state"])["result_state"] == "SUCCESS",
    ),
}


def environment(home: Path, address: Address) -> dict[str, str]:
    """
    Return an environment with an AIRFLOW_HOME of its own, and a connection to the server for each provider.

    :param home: AIRFLOW_HOME.
    """
    foreign = ("AIRFLOW", "SSL_CERT", "REQUESTS_CA", "CURL_CA")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(foreign) and not name.lower().endswith("_proxy")
    }
    own = {
        f"AIRFLOW_CONN_{name.upper().replace(' ', '_')}_DEFAULT": json.dumps(provider.connection(address))
        for name, provider in PROVIDERS.items()
    }
    # Logging is not measured: some triggers log every poll.
    own |= {"AIRFLOW_HOME": str(home), "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
    # All clients accept the server's certificate only in this way.
    return kept | own | ({"SSL_CERT_FILE": address.ca} if address.ca else {})
