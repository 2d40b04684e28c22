# SPDX-License-Identifier: Apache-2.0
"""The orphan sweep, before it looks at anything; what it finds is in the journeys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

pytestmark = pytest.mark.usefixtures("connection")


@pytest.mark.parametrize("age", ["min_age", "max_age"])
def test_an_age_that_makes_no_sense_is_refused_before_any_request(losant: Emulator, age: str) -> None:
    with pytest.raises(LosantConfigError, match=f"^{age}: "):
        LosantNotebookOrphanSweepOperator(task_id="sweep", **{age: -1}).execute({})

    assert losant.requests == []
