# SPDX-License-Identifier: Apache-2.0
"""
A fault of the submission and a different one of the execution log leave one execution, and a success.

This is a part of the table; ``python -m tests.provider.fault_pairs`` runs all of it.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from tests.provider.fault_pairs import task_log
from tests.provider.fault_pairs.faults import EXECUTE_FAULTS, LOGS_FAULTS
from tests.provider.fault_pairs.pairs import KINDS, MODES, all_pairs, chosen_pairs
from tests.provider.fault_pairs.runner import run_pairs, summary
from tests.provider.fault_pairs.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.provider.fault_pairs.pairs import Pair

pytestmark = pytest.mark.any_airflow

SEED = 1
WORKERS = 32


def in_all_modes(names: Iterable[str]) -> set[tuple[str, str]]:
    return set(product(names, MODES))


def test_the_table_has_every_pair_of_different_faults_once() -> None:
    pairs = all_pairs(SEED)

    expected = {
        (one.name, other.name)
        for one, other in product(EXECUTE_FAULTS, LOGS_FAULTS)
        if one.base != other.base
    }
    assert {(it.execute.name, it.logs.name) for it in pairs} == expected
    assert len(pairs) == len(expected) >= 300


def test_every_fault_of_the_table_meets_every_mode_and_network() -> None:
    def settings(pairs: Iterable[Pair]) -> set[tuple[str, str]]:
        return {(it.kind, it.mode) for it in pairs}

    pairs = all_pairs(SEED)
    for fault in EXECUTE_FAULTS:
        found = settings(it for it in pairs if it.execute is fault)
        assert found == set(product(KINDS[-1:] if fault.needs_tls else KINDS, MODES))


def test_the_part_has_every_fault_in_every_mode() -> None:
    pairs = chosen_pairs(SEED)

    assert {(it.execute.name, it.mode) for it in pairs} == in_all_modes(it.name for it in EXECUTE_FAULTS)
    assert {(it.logs.name, it.mode) for it in pairs} == in_all_modes(it.name for it in LOGS_FAULTS)
    assert {it.kind for it in pairs} == set(KINDS)


# Airflow 2 lets operators run in the main thread only, and these run in many.
@pytest.mark.airflow(since="3.0")
@pytest.mark.timeout(300)
def test_two_faults_in_a_row_leave_one_execution_and_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    with task_log.kept_apart(), Surroundings(WORKERS) as surroundings:
        for name, value in surroundings.environment.items():
            monkeypatch.setenv(name, value)
        runs = run_pairs(chosen_pairs(SEED), surroundings)

    unclean = "\n\n".join(str(it) for it in runs if not it.is_clean)
    assert summary(runs) == f"pairs {len(runs)}: duplicates 0, orphans 0, lost 0", unclean
