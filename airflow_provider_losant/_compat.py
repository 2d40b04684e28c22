# SPDX-License-Identifier: Apache-2.0
"""The one module that knows which Airflow this is; all others take what differs from here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    Asset,
    AssetAlias,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    PokeReturnValue,
    XCom,
    conf,
)

TRIGGER_FAILED = "__fail__"
"""The ``next_method`` by which Airflow resumes a task whose trigger crashed or ran out of time."""
AIRFLOW_VERSION = airflow_version
AIRFLOW_3 = int(AIRFLOW_VERSION.split(".")[0]) >= 3  # noqa: PLR2004 - the number is the name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from os import PathLike

    # "as" tells type checkers that others may import it from here, which is what PLC0414 misses.
    from airflow.providers.common.compat.sdk import Context as Context  # noqa: PLC0414 - as above
    from airflow.providers.common.compat.sdk import ObjectStoragePath as ObjectStoragePath  # noqa: PLC0414 - as above
    from airflow.triggers.base import BaseEventTrigger as BaseEventTrigger  # noqa: PLC0414 - as above
    from airflow.triggers.shared_stream import SharedStreamProducer as SharedStreamProducer  # noqa: PLC0414 - as above

__all__ = [
    "AIRFLOW_VERSION",
    "TRIGGER_FAILED",
    "AirflowException",
    "AirflowFailException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "Asset",
    "AssetAlias",
    "BaseEventTrigger",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "PokeReturnValue",
    "SharedStreamProducer",
    "XCom",
    "asset_stores",
    "build_start_trigger_args",
    "conf",
    "dag_run_start",
    "deployment_id",
    "has_left_deferral",
    "is_asset",
    "push_from_triggerer",
    "read_connection",
    "storage_path",
    "task_state",
    "task_store",
    "trigger_has_on_kill",
]


def __getattr__(name: str) -> Any:
    """Load what a DAG file that only names an operator does not need."""
    if name == "BaseEventTrigger":
        return _event_trigger()
    if name == "SharedStreamProducer":
        return _stream_producer()
    raise AttributeError(name)


def _event_trigger() -> type:
    from airflow.triggers import base

    if hasattr(base, "BaseEventTrigger"):
        return base.BaseEventTrigger

    class BaseEventTrigger(base.BaseTrigger):
        def __init__(self) -> None:
            raise AirflowException(
                "A DAG that starts on an event needs Airflow 3.0 or later; on this one, a scheduled DAG can "
                "wait with LosantNotebookExecutionSensor(since=...)"
            )

    return BaseEventTrigger


def _stream_producer() -> type:
    try:
        from airflow.triggers.shared_stream import SharedStreamProducer
    except ImportError:  # before Airflow 3.3, which asks for none
        return object
    return SharedStreamProducer


def storage_path(place: str | PathLike[str]) -> ObjectStoragePath:
    """Return a path in any of Airflow's object storages: a URL's, or a local one's."""
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    if isinstance(place, ObjectStoragePath):
        return place
    # Airflow 2 takes a relative path for one below the root.
    return ObjectStoragePath(str(place) if "://" in str(place) else str(Path(place).absolute()))


async def read_connection(conn_id: str) -> tuple[Any, dict[str, Any]]:
    """
    Return a connection and its extra without blocking the event loop.

    Both look-ups may ask the supervisor (to mask secrets); on some versions only a thread may wait for it.
    """
    from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

    connection = await get_async_connection(conn_id)
    return connection, await get_async_extra_dejson(connection)


def deployment_id(dag_run_start: datetime | None) -> str:
    """
    Return what tells this Airflow from another that runs the same DAG against the same Losant application.

    The base URL where one is configured: it outlives a clear of the whole DAG run, which the run's start,
    the stand-in, does not.
    """
    url = conf.get("api" if AIRFLOW_3 else "webserver", "base_url", fallback=None)
    if url and "://localhost" not in url:
        return str(url)
    return dag_run_start.isoformat() if dag_run_start else ""


def is_asset(outlet: object) -> bool:
    """Tell whether an outlet is an asset, or refers to one (Airflow 3)."""
    if not AIRFLOW_3:
        return isinstance(outlet, Asset)
    from airflow.sdk.definitions.asset import AssetRef

    return isinstance(outlet, Asset | AssetRef)


def task_store(context: Context) -> Any:
    """Return the store that outlives a task's tries (Airflow 3.3), or None."""
    return context.get("task_state_store")


def asset_stores(trigger: Any) -> list[Any]:
    """
    Return the stores of the assets that a trigger watches for (Airflow 3.3); none before.

    Airflow gives the trigger all of them in one object, which wants to be asked by an asset and does not
    tell which it has.
    """
    stores = getattr(trigger, "asset_state_store", None)
    return [] if stores is None else [*stores._by_name.values(), *stores._by_uri.values()]  # noqa: SLF001 - as above


def trigger_has_on_kill() -> bool:
    """Tell whether triggers have an ``on_kill`` (Airflow 3.3); before, a kill is a mere cancellation."""
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "on_kill")


def build_start_trigger_args(
    trigger: str, arguments: Mapping[str, Any], next_method: str, timeout: timedelta
) -> Any:
    """
    Return the ``start_trigger_args`` of a task that begins in the triggerer; None when it needs a worker.

    Before Airflow 3.3 there is nobody to render templates (apache/airflow#55068); 3.1 and 3.2 would not even
    look at these. And only text can be rendered, which an XCom has a form of unless something is done to it.
    """
    from airflow.triggers.base import BaseTrigger, StartTriggerArgs

    if not hasattr(BaseTrigger, "render_template_fields"):
        return None
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    told = {key: str(it) if isinstance(it, PlainXComArg) else it for key, it in arguments.items()}
    if not all(it is None or isinstance(it, str | int | float) for it in told.values()):
        return None
    return StartTriggerArgs(
        trigger_cls=trigger, trigger_kwargs=told, next_method=next_method, timeout=timeout
    )


async def push_from_triggerer(task_instance: Any, key: str, value: str) -> None:
    """Push an XCom of a task that began in the triggerer; its own ``xcom_push`` fails there (3.3.2)."""
    ti = task_instance
    await XCom.aset(
        key=key, value=value, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
    )


async def has_left_deferral(task_instance: Any) -> bool:
    """
    Tell whether a trigger's task instance really is no longer deferred.

    Airflow 3.3.0 to 3.3.2 call a trigger's ``on_kill`` also when it only moves to another triggerer
    (apache/airflow#73454), and older versions cancel its coroutine for either reason.
    """
    from asgiref.sync import sync_to_async

    state = await sync_to_async(_state_of)(task_instance)
    return state != "deferred"


def _state_of(task_instance: Any) -> str | None:
    map_index = -1 if task_instance.map_index is None else task_instance.map_index
    return task_state(task_instance.dag_id, task_instance.task_id, task_instance.run_id, map_index)


def task_state(dag_id: str, task_id: str, run_id: str, map_index: int) -> str | None:
    """Return the state of any task instance of this Airflow; None when it was cleared or is gone."""
    if not AIRFLOW_3:
        return _task_state_from_database(dag_id, task_id, run_id, map_index)
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=dag_id, task_ids=[task_id], run_ids=[run_id], map_index=map_index
    )
    key = task_id if map_index < 0 else f"{task_id}_{map_index}"
    return states.get(run_id, {}).get(key)  # type: ignore[no-any-return]  # as Airflow has it


def _task_state_from_database(dag_id: str, task_id: str, run_id: str, map_index: int) -> str | None:
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        state = (
            session.query(TaskInstance.state)
            .filter_by(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index)
            .scalar()
        )
    return None if state is None else str(state)


def dag_run_start(dag_id: str, run_id: str) -> tuple[bool, datetime | None]:
    """Tell whether this Airflow knows a DAG run, and when it started, where that can be learnt."""
    if not AIRFLOW_3:
        from airflow.models import DagRun

        found = DagRun.find(dag_id=dag_id, run_id=run_id)
        return bool(found), found[0].start_date if found else None
    from airflow.sdk.execution_time import comms, task_runner

    if not task_runner.RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=[run_id]):
        return False, None
    if not hasattr(comms, "GetDagRun"):
        return True, None
    answer = task_runner.SUPERVISOR_COMMS.send(comms.GetDagRun(dag_id=dag_id, run_id=run_id))
    return True, getattr(answer, "start_date", None)
