# SPDX-License-Identifier: Apache-2.0
"""Everything that differs between Airflow versions; no other module checks the version."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

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
"""The ``next_method`` with which Airflow resumes a task whose trigger crashed or timed out."""
AIRFLOW_VERSION = airflow_version
AIRFLOW_RELEASE = tuple(int(part) for part in AIRFLOW_VERSION.split(".")[:2])
AIRFLOW_3 = AIRFLOW_RELEASE >= (3, 0)

if TYPE_CHECKING:
    from datetime import datetime
    from os import PathLike

    # "as" marks a re-export for type checkers, which PLC0414 does not consider.
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
    "conf",
    "dag_run_start",
    "deployment_id",
    "event_trigger_has_queue",
    "heartbeat_timeout",
    "is_asset",
    "kill_may_be_reassignment",
    "links_bypass_xcom_backend",
    "loop_index",
    "loop_region",
    "looped_task_state",
    "push_from_triggerer",
    "read_connection",
    "renders_trigger_arguments",
    "retry_repeats_resumption",
    "storage_path",
    "task_state",
    "task_store",
    "trigger_has_on_kill",
    "trigger_task_state",
    "triggerer_stats",
]


def __getattr__(name: str) -> Any:
    """Import base classes on access, because most DAG files do not need them."""
    if name == "BaseEventTrigger":
        return _event_trigger()
    if name == "SharedStreamProducer":
        return _stream_producer()
    raise AttributeError(name)


def _event_trigger() -> type:
    from airflow.triggers import base

    if not hasattr(base, "BaseEventTrigger"):  # before Airflow 3.0

        class BaseEventTrigger(base.BaseTrigger):
            def __init__(self) -> None:
                raise AirflowException(
                    "Event-driven DAGs need Airflow 3.0 or later; on earlier versions, use "
                    "LosantNotebookExecutionSensor(since=...) in a scheduled DAG"
                )

        return BaseEventTrigger
    return base.BaseEventTrigger


def _stream_producer() -> type:
    try:
        from airflow.triggers.shared_stream import SharedStreamProducer
    except ImportError:  # before Airflow 3.3, where nothing uses it
        return object
    return SharedStreamProducer


def storage_path(path: str | PathLike[str]) -> ObjectStoragePath:
    """Return a URL or a local path as a path of Airflow's object storage."""
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    if isinstance(path, ObjectStoragePath):
        return path
    # Airflow 2 resolves a relative path against the root.
    return ObjectStoragePath(str(path) if "://" in str(path) else str(Path(path).absolute()))


async def read_connection(conn_id: str) -> tuple[Any, dict[str, Any]]:
    """
    Return a connection and its extra without blocking the event loop.

    Both may call the supervisor (to mask secrets), which on some versions is only possible in a thread.
    """
    from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

    connection = await get_async_connection(conn_id)
    return connection, await get_async_extra_dejson(connection)


def deployment_id() -> str:
    """
    Return an id of this Airflow deployment; empty if none is configured.

    It distinguishes deployments that run the same DAG against the same Losant application.
    """
    url = conf.get("api" if AIRFLOW_3 else "webserver", "base_url", fallback=None)
    return str(url) if url and "://localhost" not in url else ""


def heartbeat_timeout() -> float:
    """Return after how many seconds without a heartbeat Airflow starts another try of a task."""
    key = "task_instance_heartbeat_timeout" if AIRFLOW_3 else "scheduler_zombie_task_threshold"
    return float(conf.getint("scheduler", key, fallback=300))


def retry_repeats_resumption() -> bool:
    """
    Return whether a retry of a task that was deferred may begin as the resumption of an earlier try.

    Airflow 3.0 keeps ``next_method`` and its arguments, the trigger's event among them, when a task fails
    after its deferral.
    """
    return AIRFLOW_VERSION.startswith("3.0.")


def is_asset(outlet: object) -> bool:
    """Return whether an outlet is an asset or a reference to one (Airflow 3)."""
    if not AIRFLOW_3:  # before Airflow 3.0
        return isinstance(outlet, Asset)
    from airflow.sdk.definitions.asset import AssetRef

    return isinstance(outlet, Asset | AssetRef)


def loop_region(context: Context) -> str | None:
    """
    Return what distinguishes the iterations of a looped task (Airflow 3.4); empty for any other task.

    They share DAG id, task id, run id and map index, and those that a clear creates anew also the loop index.
    None if the task is looped, but its region has a form that is not known.
    """
    if "loop" not in context:
        return ""
    ti = context["ti"]
    region_id, index = getattr(ti, "region_id", None), getattr(ti, "region_index", None)
    if not isinstance(region_id, UUID) or not region_id.int or not isinstance(index, int):
        return None
    return _region(region_id, index)  # since Airflow 3.4


def loop_index(context: Context) -> int:
    """Return the number of a looped task's iteration, from 0; -1 if the task is not in a loop."""
    index = getattr(context.get("loop"), "index", None)
    return index if isinstance(index, int) else -1


def _region(region_id: object, index: object) -> str:  # since Airflow 3.4
    return f"{region_id}/{index}"


def task_store(context: Context) -> Any:
    """Return the store that the tries of a task share (Airflow 3.3), or None."""
    return context.get("task_state_store")


def asset_stores(trigger: Any) -> list[Any]:
    """
    Return the stores of the assets that a trigger watches (Airflow 3.3); empty before.

    Airflow passes all of them in one object that is indexed by asset and has no public way to list them.
    """
    stores = getattr(trigger, "asset_state_store", None)
    return [] if stores is None else [*stores._by_name.values(), *stores._by_uri.values()]  # noqa: SLF001 - as above


def event_trigger_has_queue() -> bool:
    """Return whether the trigger of an asset can be assigned to certain triggerers (Airflow 3.4)."""
    return "queue" in signature(_event_trigger()).parameters


def trigger_has_on_kill() -> bool:
    """Return whether triggers have ``on_kill`` (Airflow 3.3); before, a kill only cancels the coroutine."""
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "on_kill")


def renders_trigger_arguments() -> bool:
    """
    Return whether the triggerer renders the templates of a task that starts there (Airflow 3.3).

    Before, it renders none (apache/airflow#55068), and 3.1 and 3.2 ignore the arguments of such a trigger.
    """
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "render_template_fields")


async def push_from_triggerer(task_instance: Any, key: str, value: str) -> None:
    """Push an XCom of a task that started in the triggerer, where ``ti.xcom_push`` fails (Airflow 3.3.2)."""
    ti = task_instance
    await XCom.aset(
        key=key, value=value, dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
    )


def links_bypass_xcom_backend() -> bool:
    """
    Return whether a task's link has to bypass the XCom backend.

    The web server of Airflow 3 shows what its database has, which may be the path of an object in a storage.
    Airflow itself bypasses the backend when it stores the link at the end of a task.
    """
    if not AIRFLOW_3:  # before Airflow 3.0
        return False
    from airflow.sdk.bases.xcom import BaseXCom

    return XCom is not BaseXCom


def triggerer_stats() -> Any:
    """Return the ``Stats`` that the triggerer sets up; those of tasks are others since Airflow 3.2."""
    name = "airflow.observability.stats" if AIRFLOW_RELEASE >= (3, 2) else "airflow.stats"
    return import_module(name).Stats


def kill_may_be_reassignment() -> bool:
    """
    Return whether a trigger's kill may mean that the trigger moves to another triggerer.

    Airflow 3.4 distinguishes the two. Airflow 3.3.0 to 3.3.2 call ``on_kill`` in both cases
    (apache/airflow#73454), and older versions cancel the coroutine in both.
    """
    return AIRFLOW_RELEASE < (3, 4)


async def trigger_task_state(task_instance: Any) -> str | None:
    """Return the state of a trigger's task instance; None if it was cleared or deleted."""
    from asgiref.sync import sync_to_async

    ti = task_instance
    map_index = -1 if ti.map_index is None else ti.map_index
    return await sync_to_async(task_state)(ti.dag_id, ti.task_id, ti.run_id, map_index)


def task_state(dag_id: str, task_id: str, run_id: str, map_index: int) -> str | None:
    """Return the state of any task instance of this Airflow; None if it was cleared or no longer exists."""
    if not AIRFLOW_3:  # before Airflow 3.0
        return _task_state_from_database(dag_id, task_id, run_id, map_index)
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=dag_id, task_ids=[task_id], run_ids=[run_id], map_index=map_index
    )
    key = task_id if map_index < 0 else f"{task_id}_{map_index}"
    return states.get(run_id, {}).get(key)  # type: ignore[no-any-return]  # as Airflow has it


def looped_task_state(  # since Airflow 3.4
    dag_id: str, task_id: str, run_id: str, region: str
) -> str | None:
    """
    Return the state of a looped task's instance; None if it was cleared or deleted.

    Of single iterations, Airflow 3.4 returns only the states of those that have ended. Any other is
    ``unfinished`` while its DAG run has not ended: a task may run in it, or it was cleared.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    for it in RuntimeTaskInstance.get_task_breadcrumbs(dag_id=dag_id, run_id=run_id):
        if it["task_id"] == task_id and _region(it.get("region_id"), it.get("region_index")) == region:
            return str(it["state"])
    active = RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=[run_id], states=["queued", "running"])
    return "unfinished" if active else None


def _task_state_from_database(  # before Airflow 3.0
    dag_id: str, task_id: str, run_id: str, map_index: int
) -> str | None:
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
    """Return whether a DAG run exists in this Airflow, and its start, if this Airflow version provides it."""
    if not AIRFLOW_3:  # before Airflow 3.0
        from airflow.models import DagRun

        found = DagRun.find(dag_id=dag_id, run_id=run_id)
        return bool(found), found[0].start_date if found else None
    from airflow.sdk.execution_time import comms, task_runner

    if not task_runner.RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=[run_id]):
        return False, None
    if not hasattr(comms, "GetDagRun"):  # before Airflow 3.2
        return True, None
    response = task_runner.SUPERVISOR_COMMS.send(comms.GetDagRun(dag_id=dag_id, run_id=run_id))
    return True, getattr(response, "start_date", None)
