# SPDX-License-Identifier: Apache-2.0
"""Three real notebooks in a chain: values of one are the input of the next, or decide that it is skipped."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from example_dags.demo import checks, steps

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.support.journey import RunningAirflow

pytestmark = pytest.mark.xdist_group("examples")

CHAINS = pytest.mark.parametrize(
    "dag_id", [checks.VALUES_DAG, "journey_waiting_values"], ids=["deferred", "waiting"]
)


@pytest.mark.kernel
@CHAINS
@pytest.mark.parametrize(
    ("deviations", "visits"),
    [(checks.DEVIATIONS, {}), (1, {checks.VISITS_NOTEBOOK: 1})],
    ids=["skipped", "run"],
)
def test_values_of_a_notebook_are_the_input_of_the_next_and_decide_whether_it_runs(
    airflow: RunningAirflow, losant: Emulator, dag_id: str, deviations: int, visits: dict[str, int]
) -> None:
    before = len(losant.requests)
    airflow.wait_for_dag(dag_id)
    airflow.unpause(dag_id)
    run_id = airflow.trigger(
        dag_id,
        logical_date=checks.QUERY_TIME.replace(minute=deviations),
        data_interval=checks.DATA_INTERVAL,
        conf={"deviations": deviations},
    )

    assert airflow.wait_for_run(dag_id, run_id, timeout=240) == "success"

    assert steps.check_values(airflow, dag_id, run_id, deviations) == []
    requests = [asdict(it) for it in losant.requests[before:]]
    wanted = dict.fromkeys(checks.VALUES_NOTEBOOKS.values(), 1) | visits
    assert checks.request_problems(requests, executions=wanted) == []
    secrets = {"API token": losant.token, "URL of a result file": losant.files_url}
    assert checks.leak_problems(secrets, airflow.home) == []
