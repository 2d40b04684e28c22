# SPDX-License-Identifier: Apache-2.0
"""A token is rotated while tasks wait: they read their connection again, in every mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Script

if TYPE_CHECKING:
    from tests.support.journey import Journey


@pytest.mark.parametrize("variant", ["waiting", "deferred"])
def test_a_wait_survives_a_rotation_of_the_token(journey: Journey, variant: str) -> None:
    journey.start(variant, Script(notebook=25))
    journey.wait_for_poll()
    old, new = journey.losant.token, journey.losant.add_token(["all.Application"])

    fields = {"connection_id": journey.conn_id, "conn_type": "losant", "password": new}
    journey.airflow.request("PATCH", f"/connections/{journey.conn_id}?update_mask=password", json=fields)
    del journey.losant.backend.tokens[old]

    assert journey.wait_for_end() == "success"
    assert 401 in [it.status for it in journey.requests_to("logs")]
    assert len(journey.requests_to("execute")) == 1
