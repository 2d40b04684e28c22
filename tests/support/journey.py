# SPDX-License-Identifier: Apache-2.0
"""Where a story is played: an Airflow that all share, and a Losant that nobody else talks to."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pytest
import requests

from airflow_provider_losant.emulator import Emulator, Request, Script
from tests.support.airflow_2 import Airflow2Api
from tests.support.airflow_api import AirflowApi, Json
from tests.support.airflow_connection import connection
from tests.support.processes import free_port, wait_for

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow

T = TypeVar("T")

FOR_EVER = Script(notebook=0.1, ending="hang")
SHORT = Script(notebook=0.1, files={"report.csv": b"site,kwh\n"})
RESULT_KEYS = {
    "execution_id",
    "notebook_id",
    "application_id",
    "status",
    "relative_to",
    "queued_at",
    "started_at",
    "finished_at",
    "durations",
    "max_run_minutes",
    "inputs",
    "outputs",
    "url",
}
AT_ONCE = 6
"""Stories that are played side by side: more only wait for each other on two cores."""
AT_ONCE_ON_SQLITE = 2
"""The same where Airflow's processes lock each other out of their database, and give up over it."""
PATIENCE = 90.0
"""Seconds that anything may take; a task that starts among many others takes its time."""

SETTLED = 2.0
"""Seconds after which a second cancel, if there were one, would have come."""

_numbers = count(1)


def settle() -> None:
    """Give what must not happen the time to happen."""
    time.sleep(SETTLED)


class _Api(AirflowApi):
    """Ask Airflow for one change at a time: two at once is more than SQLite takes in its stride."""

    _turn = Lock()

    def request(self, method: str, path: str, **kwargs: Any) -> Any:
        if method == "GET":
            return super().request(method, path, **kwargs)
        with self._turn:
            for _ in range(5):
                try:
                    return super().request(method, path, **kwargs)
                except requests.HTTPError as error:
                    # Airflow's own processes write as well; what met a locked database was not carried out.
                    if error.response.status_code != requests.codes.server_error:
                        raise
            return super().request(method, path, **kwargs)


class _Api2(_Api, Airflow2Api):
    """The same for an Airflow 2."""


class Stage:
    """
    Everything one story needs, on its own connection: its faults and outages are nobody else's.

    :param airflow: The Airflow that all stories share.
    :param folder: What its Losant remembers over an outage.
    """

    def __init__(self, airflow: LocalAirflow, folder: Path) -> None:
        self.airflow = (_Api2 if isinstance(airflow, Airflow2Api) else _Api)(airflow.url)
        self.home = airflow.home
        self.conn_id = f"losant_stage_{next(_numbers)}"
        self.dag_id = self.run_id = ""
        self._folder = folder
        self._port = free_port()
        self._past: list[Request] = []
        self._is_connected = False

    def __enter__(self) -> Self:
        self.losant = self._open()
        self.notebook_id = self.losant.add_notebook(name=self.conn_id)
        return self

    def __exit__(self, *_: object) -> None:
        self.losant.__exit__()

    def play(
        self, story: str, script: Script = SHORT, *, waits: bool = True, extra: Json | None = None
    ) -> None:
        """
        Start a story's DAG, and wait until Losant has been asked for an execution.

        :param script: How executions go from now on.
        :param waits: False returns as soon as the DAG run exists.
        :param extra: More for the connection's extra.
        """
        self.losant.script(self.notebook_id, script)
        self.connect(extra)
        self.dag_id = f"story_{story}"
        self.airflow.wait_for_dag(self.dag_id)
        self.airflow.unpause(self.dag_id)
        folder = f"file://{self._folder / 'outputs'}"
        conf = {"notebook_id": self.notebook_id, "conn_id": self.conn_id, "folder": folder}
        self.run_id = self.airflow.trigger(self.dag_id, conf=conf)
        if waits:
            self.wait_until(lambda: self.saw("execute"), "an execute")

    def connect(self, extra: Json | None = None) -> None:
        """Make the Airflow connection that leads to this Losant, unless it has been made."""
        if self._is_connected:
            return
        self._is_connected = True
        settings = {"max_retries": 8, **(extra or {})}
        self.airflow.add_connection(self.conn_id, **connection(self.losant, **settings))

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Let Losant refuse connections while the block lasts; it comes back as it went."""
        self._past = self.requests
        self.losant.__exit__()
        try:
            yield
        finally:
            self.losant = self._open()

    @property
    def requests(self) -> list[Request]:
        """All that Losant saw, oldest first."""
        return self._past + self.losant.requests

    @property
    def executions(self) -> list[Json]:
        """All executions, oldest first, each with its ``status`` and ``id``."""
        return self.losant.executions(self.notebook_id)[::-1]

    @property
    def statuses(self) -> list[str]:
        """The statuses of all executions, oldest first."""
        return [it["status"] for it in self.executions]

    @property
    def task(self) -> Json:
        """The task instance, as Airflow shows it."""
        return self.airflow.task_instance(self.dag_id, self.run_id, "run")

    @property
    def result(self) -> Any:
        """The task's XCom."""
        return self.airflow.xcom(self.dag_id, self.run_id, "run")

    @property
    def link(self) -> str | None:
        """Where the task's button leads to."""
        return self.airflow.links(self.dag_id, self.run_id, "run")["Open in Losant"]

    def saw(self, operation: str) -> Sequence[Request]:
        """Return the requests of one operation on the notebook."""
        return [it for it in self.requests if it.operation == f"notebook.{operation}"]

    def cancelled(self) -> list[str]:
        """Return the ids that Losant was asked to cancel, and agreed."""
        return [it.query["executionId"] for it in self.saw("cancelExecution") if it.status == 200]

    def log(self, try_number: int = 1) -> str:
        """Return the log of a try."""
        return self.airflow.task_log(self.dag_id, self.run_id, "run", try_number=try_number)

    def wait_until(self, probe: Callable[[], T | None], what: str, *, timeout: float = PATIENCE) -> T:
        """Wait for something to become true."""
        return wait_for(probe, what=what, timeout=timeout, every=0.2)

    def wait_for_state(self, *states: str, try_number: int = 1) -> Json:
        """Wait until the task instance is in one of the states, in this try or a later one."""

        def there() -> Json | None:
            task = self.task
            return task if task["state"] in states and task["try_number"] >= try_number else None

        return self.wait_until(there, f"the task to be {' or '.join(states)}")

    def wait_until_watched(self) -> None:
        """Wait until whoever watches from now on has looked at the executions."""
        looks = len(self.saw("logs"))
        self.wait_until(lambda: len(self.saw("logs")) > looks, "somebody to watch")

    def end(self) -> str:
        """Wait for the end of the DAG run and return its state."""
        return self.airflow.wait_for_run(self.dag_id, self.run_id, timeout=PATIENCE)

    def mark(self, state: str) -> None:
        """Mark the task, as its button does."""
        self.airflow.set_task_state(self.dag_id, self.run_id, "run", state)

    def clear(self) -> None:
        """Clear the task, as its button does."""
        self.airflow.clear(self.dag_id, self.run_id, "run")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process of the task."""
        os.kill(self.task["pid"], number)

    def report(self) -> str:
        """Tell what happened here, for whoever has to find out why a story went wrong."""
        saw = [f"{it.at:.1f} {it.operation} {dict(it.query)} -> {it.status}" for it in self.requests]
        logs = sorted((self.home / "logs" / f"dag_id={self.dag_id}").glob(f"run_id={self.run_id}/**/*.log*"))
        written = [f"--- {log.relative_to(self.home)}\n{log.read_text()[-5000:]}" for log in logs]
        return "\n".join(["--- what Losant saw", *saw, f"executions: {self.executions}", *written])

    def _open(self) -> Emulator:
        return Emulator(port=self._port, data_dir=self._folder).__enter__()


class Ensemble:
    """
    Plays all stories of a test module side by side; each test waits for the end of its own.

    :param airflow: The Airflow that all stories share.
    :param folder: Where the stages may keep what they remember.
    :param at_once: How many stories are played at the same time.
    :param in_one_go: Play the stories of all modules side by side, as fits where they are few.
    """

    def __init__(self, airflow: LocalAirflow, folder: Path, at_once: int, *, in_one_go: bool) -> None:
        self._airflow = airflow
        self._folder = folder
        self._in_one_go = in_one_go
        self._pool = ThreadPoolExecutor(at_once)
        self._playing: dict[str, Future[None]] = {}

    def begin(self, item: pytest.Function) -> None:
        """Begin the stories that are played beside the item's, unless they have begun."""
        if item.nodeid in self._playing:
            return
        for other in item.session.items:
            if isinstance(other, pytest.Function) and is_story(other) and self._is_beside(other, item):
                self._playing[other.nodeid] = self._pool.submit(self._play, other)

    def end(self, item: pytest.Function) -> None:
        """Wait for the end of an item's story; raise what went wrong in it."""
        self._playing[item.nodeid].result()

    def wait(self) -> None:
        """Wait until no story is being played."""
        for story in self._playing.values():
            story.exception()

    def close(self) -> None:
        """Begin no more stories."""
        self._pool.shutdown(cancel_futures=True)

    def _is_beside(self, other: pytest.Function, item: pytest.Function) -> bool:
        is_told = other.get_closest_marker("skip") is None
        return is_told and (self._in_one_go or other.module is item.module)

    def _play(self, item: pytest.Function) -> None:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        with Stage(self._airflow, self._folder / str(next(_numbers))) as stage:
            try:
                item.obj(stage=stage, **params)
            except pytest.skip.Exception:
                raise
            except BaseException as error:
                error.add_note(stage.report())
                raise


def is_story(item: pytest.Item) -> bool:
    """Tell whether a test is a story: it asks for a stage."""
    return "stage" in getattr(item, "fixturenames", ())
