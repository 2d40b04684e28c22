# SPDX-License-Identifier: Apache-2.0
"""Connect an Airflow to a local Losant, and run notebooks without Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator


def connection(losant: Emulator, **extra: object) -> dict[str, Any]:
    """
    Return the fields of the Airflow connection to this Losant.

    :param extra: More for the connection's extra.
    """
    settings = {"application_id": losant.application_id, **extra}
    return {"conn_type": "losant", "host": losant.url, "password": losant.token, "extra": settings}


def execute(losant: Emulator, notebook_id: str, **options: object) -> str:
    """
    Run a notebook without Airflow, and return the execution's id.

    :param options: The body of the request.
    """
    url = f"{losant.url}/applications/{losant.application_id}/notebooks/{notebook_id}/execute"
    headers = {"Authorization": f"Bearer {losant.token}"}
    response = requests.post(url, json=options, headers=headers, timeout=30)
    response.raise_for_status()
    return str(response.json()["executionId"])
