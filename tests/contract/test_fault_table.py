# SPDX-License-Identifier: Apache-2.0
"""
Every call in every fault, with both HTTP clients, ends as ``fault_table.py`` promises.

Calls of one kind are made directly; a part of them also through a proxy, and with TLS through a proxy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.endpoints import Call
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows import polling
from airflow_provider_losant.api.flows.deploy import NotebookFile
from airflow_provider_losant.api.flows.outputs import OutputSelection, download
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.steps import LogLine, Sleep
from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.flows.wait import Target, WaitConfig
from airflow_provider_losant.api.http import decoding
from airflow_provider_losant.api.payloads import compact_json, execution_options
from airflow_provider_losant.api.settings import Settings
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.emulator.faults import ANY_OPERATION, FILES
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
from tests.support.client_kinds import KINDS, Driver
from tests.support.factories import owner
from tests.support.http_stub import HttpStub, closed_port, http, self_signed
from tests.support.network import Network

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.outcome import Outcome
    from airflow_provider_losant.api.model import ExecutionRef
    from tests.support.network.network import NetworkKind

RETRIES = 4
OUTAGE = 90.0
FILE = b"site,kwh\nnorth,42\n"
ERROR_LOG = b"ValueError: boom"
MakeScenario = Callable[..., "Scenario"]
"""Makes the scenario of a row and a client, and optionally of a way."""
ROWS = [pytest.param(row, id=row.name) for row in TABLE]
WAYS: tuple[NetworkKind, ...] = ("direct", "proxy", "tls through proxy")
PATIENT = 10.0
"""Timeout in seconds of requests that meet no late response; more than a busy machine takes for any."""
SAFE = ("list", "get", "update", "delete", "upload", "cancel", "logs", "minutes")
CREATING = ("create", "execute")


class Clock:
    """A clock that advances only when a flow sleeps."""

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
    """Run a host that is not Losant's and serves a file."""
    with HttpStub(http(FILE)) as other:
        yield other


@pytest.fixture(scope="module")
def networks(shared: Emulator) -> Iterator[dict[str, Network]]:
    with ExitStack() as stack:
        yield {way: stack.enter_context(Network(shared.url, way)) for way in WAYS if way != "direct"}


def rows(column: str, ways: Sequence[NetworkKind] = WAYS) -> pytest.MarkDecorator:
    """Parametrize a test with the rows that have a promise in a column, and with the way of the requests."""
    cases = [
        pytest.param(way, row, id=row.name if way == "direct" else f"{row.name}, {way}")
        for row in TABLE
        for way in ways
        # What is at a place is not behind the network.
        if getattr(row, column) and (way == "direct" or row.place is None)
    ]
    return pytest.mark.parametrize(("way", "row"), cases)


@dataclass
class Scenario:
    """A notebook of its own, and a fault that its requests meet."""

    losant: Emulator
    clock: Clock
    driver: Driver
    row: Row
    places: dict[Place, str]
    elsewhere: HttpStub
    network: Network | None = None
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
        """Number of retries; few where a host name is resolved, which may be slow."""
        return 1 if self.row.place else RETRIES

    @property
    def settings(self) -> Settings:
        url = self.network.base_url if self.network else self.losant.url
        if self.row.place:
            url = self.places[self.row.place]
        return Settings(token=self.losant.token, base_url=url, timeout=PATIENT)

    @property
    def is_late(self) -> bool:
        """Whether the fault is a response that comes too late."""
        fault = self.row.fault
        return fault is not None and fault.kind in {"hang", "slow_body"} and fault.seconds > TIMEOUT

    def run(self, flow: Any, settings: Settings | None = None) -> Any:
        settings = settings or self.settings
        flow = self._intercepted(flow, settings)
        return _run_alone(flow) if self.is_late else self.driver.run(settings, flow)

    def _meet(self, settings: Settings, step: Any) -> Any:
        """Carry out a step whose response is late, again with more time if even its request was."""
        timeout, before = TIMEOUT, len(self.losant.pending_faults)
        while True:
            try:
                return self.driver.run(replace(settings, timeout=timeout), single_step(step))
            except LosantError:
                if len(self.losant.pending_faults) < before or timeout > PATIENT:
                    raise
            timeout *= 2

    def _meets_fault(self, step: Any) -> bool:
        operation = step.operation if isinstance(step, Call) else FILES
        expected = {operation} if operation == FILES else {operation, ANY_OPERATION}
        return not (isinstance(step, LogLine) or expected.isdisjoint(self.losant.pending_faults))

    def run_safely(self, flow: Any) -> Any:
        """Run a flow without the fault."""
        healthy = Settings(token=self.losant.token, base_url=self.losant.url, timeout=10.0)
        return self.driver.run(healthy, flow)

    def ended_execution(self, **script: Any) -> ExecutionRef:
        """Return an execution that has ended."""
        self.script(Script(**{"notebook": 0, "files": {"out.csv": FILE}, **script}))
        ref: ExecutionRef = self.run_safely(
            single_step(endpoints.execute(self.application, self.notebook, {}))
        )
        return ref

    def inject(self, operation: str, times: int = 1) -> None:
        fault = self.row.fault
        if fault is not None and fault.kind == "redirect":
            fault = Fault("redirect", location=f"{self.elsewhere.url}/moved")
        if fault is not None and self.is_late and operation != FILES:
            fault = replace(fault, seconds=4 * PATIENT)
        if fault is not None:
            self.losant.inject(operation, fault, times)

    def request_count(self, operation: str) -> int:
        return len([it for it in self.losant.requests if it.operation == operation])

    @property
    def warnings(self) -> int:
        return sum(level >= logging.WARNING for level in self.driver.levels)

    def _intercepted(self, flow: Any, settings: Settings) -> Any:
        """Carry out the steps of a flow, as they have to be in this scenario."""
        advance: Callable[[], Any] = partial(next, flow)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                return end.value
            try:
                result = yield from self._carry_out(step, settings)
            except LosantError as error:
                advance = partial(flow.throw, error)
            else:
                advance = partial(flow.send, result)

    def _carry_out(self, step: Any, settings: Settings) -> Any:
        """
        Advance the clock of the scenario instead of sleeping; leave other steps to the client of the flow.

        If the fault is a late response, each step has a client of its own, and only those that meet the fault
        have a short timeout. Otherwise the requests after the fault would exceed it, too, when the machine is
        busy.
        """
        if isinstance(step, Sleep):
            self.clock.now += step.seconds
            self.pauses.append(step.seconds)
            return None
        if not self.is_late:
            return (yield step)
        if self._meets_fault(step):
            return self._meet(settings, step)
        return self.driver.run(settings, single_step(step))


def _run_alone(flow: Any) -> Any:
    """Return the result of a flow that carries out all its steps itself."""
    try:
        step = next(flow)
    except StopIteration as end:
        return end.value
    raise AssertionError(f"nothing carries out {step}")


def single_step(step: Any) -> Any:
    return (yield step)


@pytest.fixture
def make_scenario(
    monkeypatch: pytest.MonkeyPatch,
    shared: Emulator,
    clock: Clock,
    places: dict[Place, str],
    elsewhere: HttpStub,
    *,
    networks: dict[str, Network],
) -> MakeScenario:
    monkeypatch.setattr(decoding, "MAX_BODY", MOST)
    elsewhere.requests.clear()

    def make(row: Row, kind: str, way: NetworkKind = "direct") -> Scenario:
        network = networks.get(way)
        for name, value in network.environment.items() if network else ():
            monkeypatch.setenv(name, value)
        return Scenario(shared, clock, Driver(kind), row, places, elsewhere, network)

    return make


def make_call(scenario: Scenario, name: str) -> Call[Any]:
    """Make a call about the notebook of the scenario."""
    ids = (scenario.application, scenario.notebook)
    ref = scenario.ended_execution(ending="hang") if name in {"cancel", "logs"} else None
    scenario.losant.clear_requests()
    makers: dict[str, Callable[[], Call[Any]]] = {
        "list": lambda: endpoints.list_notebooks(
            scenario.application, page=0, filterField="name", filter=scenario.name
        ),
        "get": lambda: endpoints.get_notebook(*ids),
        "update": lambda: endpoints.update_notebook(*ids, {"description": "changed"}),
        "delete": lambda: endpoints.delete_notebook(*ids),
        "upload": lambda: endpoints.upload_notebook(*ids, NotebookFile(name="report.ipynb", raw=b"{}")),
        "cancel": lambda: endpoints.cancel_execution(ref),  # type: ignore[arg-type]  # there is one
        "logs": lambda: endpoints.execution_logs(*ids, limit=1, since=0),
        "minutes": lambda: endpoints.minute_counts(*ids),
        "create": lambda: endpoints.create_notebook(
            scenario.application, {"name": f"Made for {scenario.name}"}
        ),
        "execute": lambda: endpoints.execute(*ids, {}),
        "export": lambda: endpoints.request_export(*ids, {}),
    }
    return makers[name]()


def has_expected_effect(scenario: Scenario, name: str, result: Any) -> bool:
    """Return whether a result is right, and whether the call has had its effect at Losant."""
    notebook = scenario.losant.backend.notebooks.get(scenario.notebook)
    checks: dict[str, Callable[[], bool]] = {
        "list": lambda: [it.id for it in result.notebooks] == [scenario.notebook],
        "get": lambda: bool(result.name == scenario.name),
        "update": lambda: notebook is not None and notebook.description == "changed",
        "delete": lambda: notebook is None,
        "upload": lambda: notebook is not None and notebook.file_name == "report.ipynb",
        "cancel": lambda: scenario.losant.executions(scenario.notebook)[0]["status"] == "canceled",
        "logs": lambda: len(result) == int(not scenario.row.switches.get("listing_lag")),
        "minutes": lambda: result.minutes == 0,
        "create": lambda: result.id in scenario.losant.backend.notebooks,
        "execute": lambda: bool(
            [it["id"] for it in scenario.losant.executions(scenario.notebook)] == [result.execution_id]
        ),
        "export": lambda: bool(result),
    }
    return checks[name]()


def check(scenario: Scenario, promise: Promise, name: str) -> None:
    """Make a call as the hook does, and assert that it ends as promised, after the promised attempts."""
    call = make_call(scenario, name)
    scenario.inject(call.operation)
    try:
        result, error = scenario.run(call_with_retry(call, scenario.retries)), None
    except LosantError as raised:
        result, error = None, raised

    assert type(error) is (promise.error or type(None))
    assert error is not None or has_expected_effect(scenario, name, result)
    if scenario.row.place is None:
        assert scenario.request_count(call.operation) == promise.attempts
    assert len(scenario.pauses) == (promise.attempts or scenario.retries + 1) - 1
    if promise is LATER:
        assert ASKED_FOR <= scenario.pauses[0] <= ASKED_FOR + 1
    assert scenario.elsewhere.requests == []


@pytest.mark.parametrize("name", SAFE)
@rows("safe", ["direct"])
@pytest.mark.parametrize("kind", KINDS)
def test_idempotent_calls_are_retried(
    make_scenario: MakeScenario, way: NetworkKind, row: Row, kind: str, name: str
) -> None:
    assert row.safe
    check(make_scenario(row, kind, way), row.safe, name)


@pytest.mark.parametrize("name", ["get", "cancel"])
@rows("safe", WAYS[1:])
@pytest.mark.parametrize("kind", KINDS)
def test_idempotent_calls_through_a_proxy_are_retried(
    make_scenario: MakeScenario, way: NetworkKind, row: Row, kind: str, name: str
) -> None:
    assert row.safe
    check(make_scenario(row, kind, way), row.safe, name)


@pytest.mark.parametrize("name", CREATING)
@rows("creating")
@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_create_something_are_never_repeated_blindly(
    make_scenario: MakeScenario, way: NetworkKind, row: Row, kind: str, name: str
) -> None:
    assert row.creating
    scenario = make_scenario(row, kind, way)
    before = len(scenario.losant.backend.notebooks)

    check(scenario, row.creating, name)

    assert (
        len(scenario.losant.backend.notebooks) - before + len(scenario.losant.executions(scenario.notebook))
        <= 1
    )


@rows("export")
@pytest.mark.parametrize("kind", KINDS)
def test_rate_limited_exports_are_not_retried_by_the_client(
    make_scenario: MakeScenario, way: NetworkKind, row: Row, kind: str
) -> None:
    assert row.export
    check(make_scenario(row, kind, way), row.export, "export")


OWNER = owner()


def submitting(scenario: Scenario) -> Any:
    """Submit an execution as a task does."""
    context = execution_options(template_context=compact_json(OWNER.add_marker({"story": scenario.name})))
    submission = Submission(
        application_id=scenario.application, notebook_id=scenario.notebook, options=context, owner=OWNER
    )
    policy = SubmitPolicy(
        retries=scenario.retries, max_log_lag=60.0, max_poll_outage=OUTAGE, back_to=NOW - 2 * 86_400.0
    )
    return submit_once(submission, policy, is_retry=False, clock=scenario.clock)


@rows("start")
@pytest.mark.parametrize("kind", KINDS)
def test_a_submission_never_creates_two_executions(
    make_scenario: MakeScenario, way: NetworkKind, row: Row, kind: str
) -> None:
    promise, scenario = row.start, make_scenario(row, kind, way)
    assert promise
    if row.start_fault is not None:
        scenario.losant.inject("notebook.execute", row.start_fault)
    else:
        scenario.inject("notebook.execute")
    try:
        started, error = scenario.run(submitting(scenario)), None
    except LosantError as raised:
        started, error = None, raised

    executions = [it["id"] for it in scenario.losant.executions(scenario.notebook)]
    assert type(error) is (promise.error or type(None))
    assert executions == ([started.ref.execution_id] if started else [])
    if row.place is None:
        assert scenario.request_count("notebook.execute") == promise.attempts
    assert (started is not None and started.execution is not None) is (promise is ADOPTED)
    if promise is LATER:
        assert ASKED_FOR <= scenario.pauses[0] <= ASKED_FOR + 1


@rows("wait")
@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_poll_does_not_fail_the_execution(
    make_scenario: MakeScenario, way: NetworkKind, row: Row, kind: str
) -> None:
    promise, scenario = row.wait, make_scenario(row, kind, way)
    assert promise
    ref = scenario.ended_execution(ending="dreaming" if promise is WATCHED else "completed")
    scenario.losant.clear_requests()
    scenario.inject("notebook.logs")
    config = WaitConfig(poll_interval=20.0, deadline=scenario.clock.now + 600, max_poll_outage=OUTAGE)

    outcome: Outcome = scenario.run(polling.wait_for_execution(Target.of(ref), config, clock=scenario.clock))

    endings = {LEFT: "refused", LONG_LEFT: "outage", WATCHED: "deadline"}
    assert outcome.ending == endings.get(promise, "ended")
    assert not outcome.is_cancelled
    if promise is WATCHED:
        assert scenario.warnings == 1
    elif promise is LONG_LEFT:
        assert OUTAGE <= scenario.clock.now - NOW <= 2 * OUTAGE
    elif row.place is None:
        assert scenario.request_count("notebook.logs") == promise.attempts
    if row.fault is not None and row.fault.retry_after is not None:
        assert sum(scenario.pauses) >= ASKED_FOR


@pytest.mark.parametrize("row", [it for row, it in zip(TABLE, ROWS, strict=True) if row.file])
def test_a_file_is_downloaded_completely_or_not_at_all(make_scenario: MakeScenario, row: Row) -> None:
    promise, scenario = row.file, make_scenario(row, "requests")
    assert promise
    ref = scenario.ended_execution()
    sinks: list[BytesIO] = []
    scenario.inject("files.get")

    def open_sink() -> Any:
        sinks.append(BytesIO())
        return nullcontext(sinks[-1])

    with ExitStack() as stack:
        if row.place is not None:
            stack.callback(setattr, scenario.losant.backend, "files_url", scenario.losant.files_url)
            scenario.losant.backend.files_url = scenario.places[row.place]
        reachable = Settings(token=scenario.losant.token, base_url=scenario.losant.url, timeout=PATIENT)
        downloading = download(ref, OutputSelection(), lambda _: open_sink, scenario.retries)
        if promise.error is not None:
            with pytest.raises(promise.error):
                scenario.run(downloading, reachable)
        else:
            assert scenario.run(downloading, reachable) == {"out.csv": len(FILE)}
            assert sinks[-1].getvalue() == FILE
    assert scenario.request_count("notebook.logs") == (2 if promise is FRESH else 1)
    repeated = (
        scenario.retries if promise.error else int(promise not in {DONE, FRESH} and promise.attempts == 2)
    )
    assert len(scenario.pauses) == repeated
    assert scenario.elsewhere.head("authorization") == [""] * len(scenario.elsewhere.requests)


@rows("tail", ["direct"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_unreadable_error_log_does_not_change_the_outcome(
    make_scenario: MakeScenario, way: NetworkKind, row: Row, kind: str
) -> None:
    promise, scenario = row.tail, make_scenario(row, kind, way)
    ref = scenario.ended_execution(ending="errored", files={"result.error.log": ERROR_LOG})
    scenario.inject("files.get")
    config = WaitConfig(poll_interval=20.0, deadline=scenario.clock.now + 600, max_poll_outage=OUTAGE)

    with ExitStack() as stack:
        if row.place is not None:
            stack.callback(setattr, scenario.losant.backend, "files_url", scenario.losant.files_url)
            scenario.losant.backend.files_url = scenario.places[row.place]
        reachable = Settings(
            token=scenario.losant.token,
            base_url=scenario.losant.url,
            timeout=1.0,
        )
        outcome: Outcome = scenario.run(
            polling.wait_for_execution(Target.of(ref), config, clock=scenario.clock), reachable
        )

    assert (outcome.ending, outcome.result["status"]) == ("ended", "errored")
    assert (outcome.error_log is None) is (promise is OMITTED)
    assert len(outcome.error_log or "") <= 4_000
    assert scenario.warnings == int(promise is OMITTED)


# -- permanent faults -------------------------------------------------------------------------------------

PERMANENT = [it for row, it in zip(TABLE, ROWS, strict=True) if row.fault and row.safe is not DONE]


@pytest.mark.parametrize("row", PERMANENT)
@pytest.mark.parametrize("kind", KINDS)
def test_a_permanent_fault_is_an_error_after_the_promised_attempts(
    make_scenario: MakeScenario, row: Row, kind: str
) -> None:
    scenario = make_scenario(row, kind)
    call = make_call(scenario, "get")
    scenario.inject(call.operation, times=20)

    with pytest.raises(LosantError):
        scenario.run(call_with_retry(call, scenario.retries))
    assert scenario.request_count(call.operation) <= RETRIES + 1


@pytest.mark.parametrize("operation", ["notebook.execute", "*"])
@pytest.mark.parametrize("row", PERMANENT)
def test_a_submission_during_a_permanent_fault_creates_at_most_one_execution(
    make_scenario: MakeScenario, row: Row, operation: str
) -> None:
    scenario = make_scenario(row, "requests")
    scenario.inject(operation, times=200)

    with suppress(LosantError):
        scenario.run(submitting(scenario))
    assert len(scenario.losant.executions(scenario.notebook)) <= 1
    assert scenario.request_count("notebook.execute") <= RETRIES + 1
    assert scenario.clock.now - NOW <= 900
