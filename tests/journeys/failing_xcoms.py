# SPDX-License-Identifier: Apache-2.0
"""An XCom backend for the journey in which the storage of XComs fails."""

from __future__ import annotations

from typing import Any

from airflow.sdk.bases.xcom import BaseXCom

FAILING_DAG = "journey_unpublished"


class FailingXCom(BaseXCom):
    """Store the XComs of all DAGs but one, like a backend whose storage denies access to that one."""

    @staticmethod
    def serialize_value(value: Any, *, dag_id: str | None = None, **names: Any) -> str:
        _deny(dag_id)
        return BaseXCom.serialize_value(value, dag_id=dag_id, **names)

    @classmethod
    def store_value(cls, coordinate: Any, key: str, value: Any) -> Any:
        """Do the same on Airflow 3.4, which allows loops only where a backend has this method."""
        _deny(coordinate.dag_id)
        return super().store_value(coordinate, key, value)  # type: ignore[misc]  # not in earlier Airflows


def _deny(dag_id: str | None) -> None:
    if dag_id == FAILING_DAG:
        raise PermissionError("the storage of XComs denies access")
