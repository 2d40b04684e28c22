# SPDX-License-Identifier: Apache-2.0
"""The templates of the documentation and of the examples work in DAG runs of every kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from tests.support.pages import pages
from tests.support.paths import ROOT
from tests.support.source_files import modules

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
DATES = {"ds", "ds_nodash", "ts", "ts_nodash", "logical_date", "data_interval_start", "data_interval_end"}
"""Variables that Airflow 3 leaves undefined in a DAG run without a logical date."""
WITH_DATES: dict[str, Any] = {"run_id": "scheduled__2026-01-02"} | dict.fromkeys(DATES, WHEN)
DAG_RUNS = {
    "scheduled": WITH_DATES | {"dag_run": SimpleNamespace(run_after=WHEN)},
    "without a logical date": {"run_id": "manual__2026-01-02", "dag_run": SimpleNamespace(run_after=WHEN)},
    "of Airflow 2": WITH_DATES | {"dag_run": SimpleNamespace()},
}


def templates() -> Iterator[tuple[str, str]]:
    """Yield each template with a date in the code of pages, examples and docstrings, and where it is."""
    code = {str(block): block.body for page in pages() for block in page.blocks if block.kind == "python"}
    files = [*(ROOT / "example_dags").glob("*.py"), *(ROOT / "docs" / "get-started").rglob("*.py")]
    code |= {str(file.relative_to(ROOT)): file.read_text() for file in [*files, *modules().values()]}
    for place, text in code.items():
        for template in re.findall(r"\{\{.*?\}\}", text):
            if DATES & set(re.findall(r"\w+", template)):
                yield place, template


@pytest.mark.parametrize("kind", DAG_RUNS)
def test_every_template_with_a_date_renders_in_dag_runs_of_every_kind(kind: str) -> None:
    environment = DAG("templates", schedule=None).get_template_env()
    found = list(templates())

    rendered = {place: environment.from_string(it).render(DAG_RUNS[kind]) for place, it in found}

    assert len(found) > 10
    assert {place: it for place, it in rendered.items() if not re.search("2026-01-02", it)} == {}
