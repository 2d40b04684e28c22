# SPDX-License-Identifier: Apache-2.0
"""A token that is rotated while tasks wait: they read their connection again, wherever they wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Script

if TYPE_CHECKING:
    from tests.support.journey import Stage


@pytest.mark.parametrize("story", ["waiting", "deferred"])
def test_a_wait_survives_a_rotation_of_the_token(stage: Stage, story: str) -> None:
    stage.play(story, Script(notebook=25))
    stage.wait_until_watched()
    old, new = stage.losant.token, stage.losant.add_token(["all.Application"])

    told = {"connection_id": stage.conn_id, "conn_type": "losant", "password": new}
    stage.airflow.request("PATCH", f"/connections/{stage.conn_id}?update_mask=password", json=told)
    del stage.losant.backend.tokens[old]

    assert stage.end() == "success"
    assert 401 in [it.status for it in stage.saw("logs")]
    assert len(stage.saw("execute")) == 1
