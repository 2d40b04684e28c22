# SPDX-License-Identifier: Apache-2.0
"""What must not be known is kept nowhere: not in a debug log, not in the database, not after an error."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Fault, Script
from tests.journeys.conftest import HERE
from tests.journeys.secret_scan import kept_by, places_of, secrets_pattern
from tests.support.journey import FOR_EVER, Stage
from tests.support.local_airflow import LocalAirflow
from tests.support.postgres import best_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {
    "report.csv": b"site,kwh\n",
    "result.error.log": b"Traceback (most recent call last):\nValueError: boom\n",
}
GOOD = Script(notebook=0.1, files=FILES)
BAD = Script(notebook=0.1, files=FILES, ending="errored", errors=(("ValueError", "boom"),))
MISHAPS = (
    "server_error",
    "html",
    "truncated",
    "reset_before",
    "reset_after",
    "rate_limited",
    "redirect",
    "unauthorized",
)
STORIES = {
    "saving": (GOOD, "success"),
    "deferred": (BAD, "failed"),
    "waiting": (BAD, "failed"),
    "retrying_deferred": (GOOD, "success"),
    "limited": (FOR_EVER, "failed"),
    "awaiting": (GOOD, "success"),
    "sweep": (GOOD, "success"),
}
"""What is played, how its executions end, and how the DAG run does."""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """Yield an Airflow that writes down everything it could be asked to."""
    talkative = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG", "AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}
    home = tmp_path_factory.mktemp("secrets")
    with (
        best_database() as database,
        LocalAirflow(home, HERE / "dags", env=talkative, sql_alchemy_conn=database) as running,
    ):
        yield running


def play_all(airflow: LocalAirflow, stages: dict[str, Stage]) -> None:
    """Let everything happen that tells Airflow something, good and bad, and wait for the ends."""
    for name, stage in stages.items():
        script, _ = STORIES[name]
        for kind in MISHAPS if name in {"waiting", "deferred", "retrying_deferred"} else ():
            stage.losant.inject("notebook.logs", Fault(kind))  # type: ignore[arg-type]  # one of its kinds
        stage.play(name, script, waits=False)
        fields = {"conn_type": "losant", "host": stage.losant.url, "connection_id": stage.conn_id}
        for token in (stage.losant.token, stage.losant.add_token(expired=True)):
            airflow.request("POST", "/connections/test", json={**fields, "password": token})
    for name, stage in stages.items():
        assert stage.end() == STORIES[name][1], name


@pytest.mark.timeout(300)
def test_neither_token_nor_signed_address_is_left_in_a_debug_log_or_in_the_database(
    airflow: LocalAirflow, tmp_path: Path
) -> None:
    with ExitStack() as ending:
        stages = {name: ending.enter_context(Stage(airflow, tmp_path / name)) for name in STORIES}
        still = ending.enter_context(Stage(airflow, tmp_path / "still"))
        still.play("deferred", FOR_EVER)  # so that there is a trigger in the database
        still.wait_for_state("deferred")
        still.wait_until_watched()

        play_all(airflow, stages)

        tokens = {token for stage in (*stages.values(), still) for token in stage.losant.backend.tokens}
        runs = [run["id"] for stage in (*stages.values(), still) for run in stage.executions]
        kept = list(kept_by(airflow))
    assert len(tokens) >= 2 * len(STORIES)
    assert places_of(secrets_pattern(tokens), kept) == []
    for run in runs:  # whoever looks for secrets in the same places finds what is none
        assert {"logs", "table"} <= {re.split(r"[/ ]", place)[0] for place in places_of(run, kept)}
