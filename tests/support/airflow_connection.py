# SPDX-License-Identifier: Apache-2.0
"""What people do with a Losant beside the tasks of an Airflow: lead one there, and run notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator


def connection(losant: Emulator, **extra: object) -> dict[str, Any]:
    """
    Return the fields of the Airflow connection that leads to this Losant.

    :param extra: More for the connection's extra.
    """
    settings = {"application_id": losant.application_id, **extra}
    return {"conn_type": "losant", "host": losant.url, "password": losant.token, "extra": settings}


def execute(losant: Emulator, notebook_id: str, **options: object) -> str:
    """
    Run a notebook as somebody does who knows nothing of Airflow; returns the execution's id.

    :param options: The body of the request.
    """
    url = f"{losant.url}/applications/{losant.application_id}/notebooks/{notebook_id}/execute"
    headers = {"Authorization": f"Bearer {losant.token}"}
    answer = requests.post(url, json=options, headers=headers, timeout=30)
    answer.raise_for_status()
    return str(answer.json()["executionId"])
