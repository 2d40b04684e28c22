# SPDX-License-Identifier: Apache-2.0
"""Tasks in a distributed Airflow; ``python -m tests.journeys.distributed`` runs more of them."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.journeys.distributed import redis
from tests.journeys.distributed.__main__ import run_distributed
from tests.support import postgres


@pytest.mark.xdist_group("stopped-airflow")
@pytest.mark.timeout(400)  # starts an Airflow of nine processes, which has to notice three deaths
@pytest.mark.skipif(redis.program() is None, reason="needs Redis (Debian: redis-server)")
@pytest.mark.skipif(postgres.programs() is None, reason="needs PostgreSQL's programs (Debian: postgresql)")
@pytest.mark.skipif(find_spec("celery") is None, reason="needs the extra distributed")
def test_each_task_has_one_execution_though_a_worker_a_triggerer_and_the_broker_are_killed() -> None:
    report = run_distributed(10, limit=300.0)

    print(report)
    assert report.findings.is_clean, str(report)
    assert (report.findings.tasks, report.findings.executions) == (10, 10)
    assert report.deaths.total() == 3
