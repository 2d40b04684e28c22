# SPDX-License-Identifier: Apache-2.0
"""Every call in every fault, through both drivers, ends as ``fault_table.py`` promises."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows import polling
from airflow_provider_losant.api.flows.deploy import NotebookFile
from airflow_provider_losant.api.flows.outputs import OutputSelection, download
from airflow_provider_losant.api.flows.ownership import Owner
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.steps import Sleep
from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.flows.wait import Target, WaitConfig
from airflow_provider_losant.api.http import decoding
from airflow_provider_losant.api.payloads import compact_json, execution_options
from airflow_provider_losant.api.settings import Settings
from airflow_provider_losant.emulator import Emulator, Fault, Script
from tests.contract.fault_table import (
    ADOPTED,
    ASKED_FOR,
    DONE,
    FRESH,
    LATER,
    LEFT,
    LONG_LEFT,
    MOST,
    NOW,
    OMITTED,
    TABLE,
    TIMEOUT,
    WATCHED,
    Place,
    Promise,
    Row,
)
from tests.provider.conftest import own_surroundings  # noqa: F401 - for all tests here
from tests.support.client_kinds import KINDS, Driver
from tests.support.http_stub import HttpStub, closed_port, http, self_signed

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call
    from airflow_provider_losant.api.flows.outcome import Outcome
    from airflow_provider_losant.api.model import ExecutionRef

RETRIES = 4
OUTAGE = 90.0
FILE = b"site,kwh\nnorth,42\n"
ERROR_LOG = b"ValueError: boom"
ROWS = [pytest.param(row, id=row.name) for row in TABLE]
SAFE = ("list", "get", "update", "delete", "upload", "cancel", "logs", "minutes")
CREATING = ("create", "execute")


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def shared(clock: Clock) -> Iterator[Emulator]:
    with Emulator(clock=clock) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Place, str]]:
    context, _ = self_signed(tmp_path_factory.mktemp("tls"))
    with HttpStub(http({}), context) as untrusted:
        yield {
            "closed port": f"http://127.0.0.1:{closed_port()}",
            "untrusted certificate": untrusted.url,
            "unknown host": "http://no-such-host.invalid",
        }


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[HttpStub]:
    """Give a host that is not Losant's, and has a file."""
    with HttpStub(http(FILE)) as other:
        yield other


@dataclass
class Stage:
    """One story: a notebook of its own, and a fault in the way."""

    losant: Emulator
    clock: Clock
    driver: Driver
    row: Row
    places: dict[Place, str]
    elsewhere: HttpStub
    pauses: list[float] = field(default_factory=list)
    _numbers = count()

    def __post_init__(self) -> None:
        self.clock.now = NOW
        self.losant.clear_faults()
        self.losant.switches.clock_skew = self.losant.switches.listing_lag = 0.0
        for name, value in self.row.switches.items():
            setattr(self.losant.switches, name, value)
        self.application = self.losant.application_id
        self.name = f"Report {next(self._numbers)}"
        self.notebook = self.losant.add_notebook(self.name)
        self.script(Script(notebook=0, files={"out.csv": FILE}))
        self.losant.clear_requests()

    def script(self, script: Script) -> None:
        self.losant.script(self.notebook, script)

    @property
    def retries(self) -> int:
        """How often to try again; a resolver that is asked too often may take its time."""
        return 1 if self.row.place else RETRIES

    @property
    def settings(self) -> Settings:
        seconds = self.row.fault.seconds if self.row.fault else 30.0
        is_late = (
            self.row.fault is not None and self.row.fault.kind in {"hang", "slow_body"} and seconds > TIMEOUT
        )
        url = self.places[self.row.place] if self.row.place else self.losant.url
        return Settings(token=self.losant.token, base_url=url, timeout=TIMEOUT if is_late else 10.0)

    def run(self, flow: Any, settings: Settings | None = None) -> Any:
        return self.driver.run(settings or self.settings, self._hastily(flow))

    def run_safely(self, flow: Any) -> Any:
        """Carry a flow out as if there were no fault."""
        healthy = Settings(token=self.losant.token, base_url=self.losant.url, timeout=10.0)
        return self.driver.run(healthy, flow)

    def ended_run(self, **script: Any) -> ExecutionRef:
        """Have a run that has ended."""
        self.script(Script(**{"notebook": 0, "files": {"out.csv": FILE}, **script}))
        ref: ExecutionRef = self.run_safely(only(endpoints.execute(self.application, self.notebook, {})))
        return ref

    def inject(self, operation: str, times: int = 1) -> None:
        fault = self.row.fault
        if fault is not None and fault.kind == "redirect":
            fault = Fault("redirect", location=f"{self.elsewhere.url}/moved")
        if fault is not None:
            self.losant.inject(operation, fault, times)

    def asked(self, operation: str) -> int:
        return len([it for it in self.losant.requests if it.operation == operation])

    @property
    def warnings(self) -> int:
        return sum(level >= logging.WARNING for level in self.driver.levels)

    def _hastily(self, flow: Any) -> Any:
        """Let sleeping take no time but on the clock of the story."""
        advance: Callable[[], Any] = partial(next, flow)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                return end.value
            if isinstance(step, Sleep):
                self.clock.now += step.seconds
                self.pauses.append(step.seconds)
                advance = partial(flow.send, None)
                continue
            try:
                advance = partial(flow.send, (yield step))
            except LosantError as error:
                advance = partial(flow.throw, error)


def only(step: Any) -> Any:
    return (yield step)


@pytest.fixture
def stage(
    monkeypatch: pytest.MonkeyPatch,
    shared: Emulator,
    clock: Clock,
    places: dict[Place, str],
    elsewhere: HttpStub,
) -> Callable[[Row, str], Stage]:
    monkeypatch.setattr(decoding, "MAX_BODY", MOST)
    elsewhere.requests.clear()
    return lambda row, kind: Stage(shared, clock, Driver(kind), row, places, elsewhere)


def call_for(story: Stage, name: str) -> Call[Any]:
    """Make a call that does something to, or tells something of, the notebook of the story."""
    ids = (story.application, story.notebook)
    ref = story.ended_run(ending="hang") if name in {"cancel", "logs"} else None
    story.losant.clear_requests()
    made: dict[str, Callable[[], Call[Any]]] = {
        "list": lambda: endpoints.list_notebooks(
            story.application, page=0, filterField="name", filter=story.name
        ),
        "get": lambda: endpoints.get_notebook(*ids),
        "update": lambda: endpoints.update_notebook(*ids, {"description": "changed"}),
        "delete": lambda: endpoints.delete_notebook(*ids),
        "upload": lambda: endpoints.upload_notebook(*ids, NotebookFile(name="report.ipynb", raw=b"{}")),
        "cancel": lambda: endpoints.cancel_execution(ref),  # type: ignore[arg-type]  # there is one
        "logs": lambda: endpoints.execution_logs(*ids, limit=1, since=0),
        "minutes": lambda: endpoints.minute_counts(*ids),
        "create": lambda: endpoints.create_notebook(story.application, {"name": f"Made for {story.name}"}),
        "execute": lambda: endpoints.execute(*ids, {}),
        "export": lambda: endpoints.request_export(*ids, {}),
    }
    return made[name]()


def is_right(story: Stage, name: str, answer: Any) -> bool:
    """Tell whether an answer is what was asked for, and Losant as it should be."""
    notebook = story.losant.backend.notebooks.get(story.notebook)
    checks: dict[str, Callable[[], bool]] = {
        "list": lambda: [it.id for it in answer.notebooks] == [story.notebook],
        "get": lambda: bool(answer.name == story.name),
        "update": lambda: notebook is not None and notebook.description == "changed",
        "delete": lambda: notebook is None,
        "upload": lambda: notebook is not None and notebook.file_name == "report.ipynb",
        "cancel": lambda: story.losant.executions(story.notebook)[0]["status"] == "canceled",
        "logs": lambda: len(answer) == int(not story.row.switches.get("listing_lag")),
        "minutes": lambda: answer.minutes == 0,
        "create": lambda: answer.id in story.losant.backend.notebooks,
        "execute": lambda: bool(
            [it["id"] for it in story.losant.executions(story.notebook)] == [answer.execution_id]
        ),
        "export": lambda: bool(answer),
    }
    return checks[name]()


def check(story: Stage, promise: Promise, name: str) -> None:
    """Make a call as the hook does, and see that it ends as promised, after so many attempts."""
    call = call_for(story, name)
    story.inject(call.operation)
    try:
        answer, error = story.run(call_with_retry(call, story.retries)), None
    except LosantError as raised:
        answer, error = None, raised

    assert type(error) is (promise.error or type(None))
    assert error is not None or is_right(story, name, answer)
    if story.row.place is None:
        assert story.asked(call.operation) == promise.attempts
    assert len(story.pauses) == (promise.attempts or story.retries + 1) - 1
    if promise is LATER:
        assert ASKED_FOR <= story.pauses[0] <= ASKED_FOR + 1
    assert story.elsewhere.requests == []


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("row", [it for it in ROWS if it.values[0].safe])
@pytest.mark.parametrize("kind", KINDS)
def test_idempotent_calls_are_retried(
    stage: Callable[[Row, str], Stage], row: Row, kind: str, name: str
) -> None:
    assert row.safe
    check(stage(row, kind), row.safe, name)


@pytest.mark.parametrize("name", CREATING)
@pytest.mark.parametrize("row", [it for it in ROWS if it.values[0].creating])
@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_create_something_are_never_repeated_blindly(
    stage: Callable[[Row, str], Stage], row: Row, kind: str, name: str
) -> None:
    assert row.creating
    story = stage(row, kind)
    before = len(story.losant.backend.notebooks)

    check(story, row.creating, name)

    assert len(story.losant.backend.notebooks) - before + len(story.losant.executions(story.notebook)) <= 1


@pytest.mark.parametrize("row", [it for it in ROWS if it.values[0].export])
@pytest.mark.parametrize("kind", KINDS)
def test_rate_limited_exports_are_not_retried_by_the_client(
    stage: Callable[[Row, str], Stage], row: Row, kind: str
) -> None:
    assert row.export
    check(stage(row, kind), row.export, "export")


OWNER = Owner(
    dag_id="dag", task_id="task", run_id="run", map_index=-1, try_number=1, max_tries=3, deployment="here"
)


def beginning(story: Stage) -> Any:
    """Start a run as a task does."""
    context = execution_options(template_context=compact_json(OWNER.add_marker({"story": story.name})))
    submission = Submission(
        application_id=story.application, notebook_id=story.notebook, options=context, owner=OWNER
    )
    policy = SubmitPolicy(
        retries=story.retries, max_log_lag=60.0, max_poll_outage=OUTAGE, lookback=2 * 86_400.0
    )
    return submit_once(submission, policy, is_retry=False, clock=story.clock)


@pytest.mark.parametrize("row", [it for it in ROWS if it.values[0].start])
@pytest.mark.parametrize("kind", KINDS)
def test_a_submission_never_creates_two_executions(
    stage: Callable[[Row, str], Stage], row: Row, kind: str
) -> None:
    promise, story = row.start, stage(row, kind)
    assert promise
    if row.start_fault is not None:
        story.losant.inject("notebook.execute", row.start_fault)
    else:
        story.inject("notebook.execute")
    try:
        started, error = story.run(beginning(story)), None
    except LosantError as raised:
        started, error = None, raised

    runs = [it["id"] for it in story.losant.executions(story.notebook)]
    assert type(error) is (promise.error or type(None))
    assert runs == ([started.ref.execution_id] if started else [])
    if row.place is None:
        assert story.asked("notebook.execute") == promise.attempts
    assert (started is not None and started.execution is not None) is (promise is ADOPTED)
    if promise is LATER:
        assert ASKED_FOR <= story.pauses[0] <= ASKED_FOR + 1


@pytest.mark.parametrize("row", [it for it in ROWS if it.values[0].wait])
@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_poll_does_not_fail_the_execution(
    stage: Callable[[Row, str], Stage], row: Row, kind: str
) -> None:
    promise, story = row.wait, stage(row, kind)
    assert promise
    ref = story.ended_run(ending="dreaming" if promise is WATCHED else "completed")
    story.losant.clear_requests()
    story.inject("notebook.logs")
    config = WaitConfig(poll_interval=20.0, deadline=story.clock.now + 600, max_poll_outage=OUTAGE)

    outcome: Outcome = story.run(polling.wait_for_execution(Target.of(ref), config, clock=story.clock))

    endings = {LEFT: "refused", LONG_LEFT: "outage", WATCHED: "deadline"}
    assert outcome.ending == endings.get(promise, "ended")
    assert not outcome.is_cancelled
    if promise is WATCHED:
        assert story.warnings == 1
    elif promise is LONG_LEFT:
        assert OUTAGE <= story.clock.now - NOW <= 2 * OUTAGE
    elif row.place is None:
        assert story.asked("notebook.logs") == promise.attempts
    if row.fault is not None and row.fault.retry_after is not None:
        assert sum(story.pauses) >= ASKED_FOR


@pytest.mark.parametrize("row", [it for it in ROWS if it.values[0].file])
def test_a_file_is_downloaded_completely_or_not_at_all(stage: Callable[[Row, str], Stage], row: Row) -> None:
    promise, story = row.file, stage(row, "requests")
    assert promise
    ref = story.ended_run()
    got: list[BytesIO] = []
    story.inject("files.get")

    def open_sink() -> Any:
        got.append(BytesIO())
        return nullcontext(got[-1])

    with ExitStack() as stack:
        if row.place is not None:
            stack.callback(setattr, story.losant.backend, "files_url", story.losant.files_url)
            story.losant.backend.files_url = story.places[row.place]
        near = Settings(token=story.losant.token, base_url=story.losant.url, timeout=story.settings.timeout)
        fetching = download(ref, OutputSelection(), lambda _: open_sink, story.retries)
        if promise.error is not None:
            with pytest.raises(promise.error):
                story.run(fetching, near)
        else:
            assert story.run(fetching, near) == {"out.csv": len(FILE)}
            assert got[-1].getvalue() == FILE
    assert story.asked("notebook.logs") == (2 if promise is FRESH else 1)
    repeated = story.retries if promise.error else int(promise not in {DONE, FRESH} and promise.attempts == 2)
    assert len(story.pauses) == repeated
    assert story.elsewhere.head("authorization") == [""] * len(story.elsewhere.requests)


@pytest.mark.parametrize("row", [it for it in ROWS if it.values[0].tail])
@pytest.mark.parametrize("kind", KINDS)
def test_an_unreadable_error_log_does_not_change_the_outcome(
    stage: Callable[[Row, str], Stage], row: Row, kind: str
) -> None:
    promise, story = row.tail, stage(row, kind)
    ref = story.ended_run(ending="errored", files={"result.error.log": ERROR_LOG})
    story.inject("files.get")
    config = WaitConfig(poll_interval=20.0, deadline=story.clock.now + 600, max_poll_outage=OUTAGE)

    with ExitStack() as stack:
        if row.place is not None:
            stack.callback(setattr, story.losant.backend, "files_url", story.losant.files_url)
            story.losant.backend.files_url = story.places[row.place]
        near = Settings(
            token=story.losant.token, base_url=story.losant.url, timeout=min(story.settings.timeout, 1)
        )
        outcome: Outcome = story.run(
            polling.wait_for_execution(Target.of(ref), config, clock=story.clock), near
        )

    assert (outcome.ending, outcome.result["status"]) == ("ended", "errored")
    assert (outcome.error_log is None) is (promise is OMITTED)
    assert len(outcome.error_log or "") <= 4_000
    assert story.warnings == int(promise is OMITTED)


# -- faults that stay -------------------------------------------------------------------------------------

STAYING = [it for it in ROWS if it.values[0].fault and it.values[0].safe is not DONE]


@pytest.mark.parametrize("row", STAYING)
@pytest.mark.parametrize("kind", KINDS)
def test_a_permanent_fault_is_an_error_after_the_promised_attempts(
    stage: Callable[[Row, str], Stage], row: Row, kind: str
) -> None:
    story = stage(row, kind)
    call = call_for(story, "get")
    story.inject(call.operation, times=20)

    with pytest.raises(LosantError):
        story.run(call_with_retry(call, story.retries))
    assert story.asked(call.operation) <= RETRIES + 1


@pytest.mark.parametrize("operation", ["notebook.execute", "*"])
@pytest.mark.parametrize("row", STAYING)
def test_a_submission_during_a_permanent_fault_creates_at_most_one_execution(
    stage: Callable[[Row, str], Stage], row: Row, operation: str
) -> None:
    story = stage(row, "requests")
    story.inject(operation, times=200)

    with suppress(LosantError):
        story.run(beginning(story))
    assert len(story.losant.executions(story.notebook)) <= 1
    assert story.asked("notebook.execute") <= RETRIES + 1
    assert story.clock.now - NOW <= 900
