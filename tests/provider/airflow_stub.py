# SPDX-License-Identifier: Apache-2.0
"""Airflow's side of the sweep: the supervisor of an Airflow 3 task, with one DAG run in its database."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from tests.provider.tasks import Ti


@dataclass
class Supervisor:
    """
    Replaces the supervisor of an Airflow 3 task.

    :param ti: The only task instance of the only DAG run.
    :param state: Its state; None if it was cleared or deleted.
    :param awaited_id: Its XCom ``execution_id``.
    :param has_dag_run: Whether its DAG run exists.
    :param is_active: Whether its DAG run has not ended.
    :param ended: Task id, region id, region index and state of each ended task instance of its DAG run.
    :param refused: DAG ids for which Airflow's API returns an error.
    """

    ti: Ti
    state: str | None = "failed"
    awaited_id: str | None = None
    has_dag_run: bool = True
    is_active: bool = True
    ended: list[tuple[str, str, int, str]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def send(self, asked: Any) -> Any:
        ti, name = self.ti, type(asked).__name__
        self.asked.append(name)
        if getattr(asked, "dag_id", None) in self.refused:
            raise RuntimeError(f"Airflow's API does not accept {asked.dag_id}")
        states = {ti.run_id: {ti.task_id: self.state}} if self.state else {}
        return {
            "GetDRCount": lambda: SimpleNamespace(count=self._count(asked.states)),
            "GetTaskBreadcrumbs": lambda: SimpleNamespace(breadcrumbs=self._breadcrumbs()),
            "GetDagRun": lambda: SimpleNamespace(start_date=ti.dag_run_start),
            "GetTaskStates": lambda: SimpleNamespace(task_states=states),
            "GetXCom": self._xcom,
        }.get(name, lambda: None)()  # None to Airflow 3.0, which asks for the connection here

    def _count(self, states: list[str] | None) -> int:
        return int(self.has_dag_run and (states is None or self.is_active))

    def _breadcrumbs(self) -> list[dict[str, Any]]:
        names = ("task_id", "region_id", "region_index", "state")
        return [dict(zip(names, it, strict=True)) for it in self.ended]

    def _xcom(self) -> Any:
        from airflow.sdk.execution_time.comms import XComResult

        return XComResult(key="execution_id", value=self.awaited_id)


def supervise(monkeypatch: pytest.MonkeyPatch, ti: Ti, **more: Any) -> Supervisor:
    """Let Airflow 3 ask this supervisor from now on."""
    from airflow.sdk.execution_time import task_runner

    supervisor = Supervisor(ti, **more)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor
