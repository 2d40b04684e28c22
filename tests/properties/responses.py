# SPDX-License-Identifier: Apache-2.0
"""Answers of Losant's: such as its reference allows, and such with one thing in them that it does not."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from tests.support.factories import APPLICATION_ID, EXECUTION_ID, NOTEBOOK_ID

HEX = st.text("0123456789abcdefABCDEF", min_size=24, max_size=24)
WHEN = st.datetimes().map(lambda it: it.isoformat(timespec="milliseconds") + "Z")
STATUS = st.sampled_from(
    ("queued", "inProgress", "completed", "errored", "timeout", "canceling", "canceled", "some later word")
)
TEXT = st.text(max_size=20)
SIZE = st.integers(0, 2**53)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | WHEN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
"""Any JSON, and the numbers that only Python takes for JSON."""


def _object(needed: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(needed, optional=optional)


FILES = st.dictionaries(TEXT, _object({}, size=SIZE, url=TEXT, contentType=TEXT), max_size=3)
EXECUTION = _object(
    {
        "id": st.just(EXECUTION_ID),
        "notebookExecutionId": st.just(EXECUTION_ID),
        "notebookId": HEX,
        "applicationId": HEX,
        "status": STATUS,
    },
    executionRelativeTo=WHEN,
    maxAllowedRunMinutes=st.integers(0, 10_000) | st.floats(0, 10_000),
    runQueuedAt=WHEN,
    runStartedAt=WHEN,
    inputsCompletedAt=WHEN,
    notebookCompletedAt=WHEN,
    outputsCompletedAt=WHEN,
    inputInfo=FILES,
    outputInfo=FILES,
    executionErrors=st.lists(_object({}, name=TEXT, message=TEXT), max_size=2),
    templateContext=TEXT | st.just('{"airflow": 5}') | st.just("[" * 32_767),
    _later=ANYTHING,
)
NOTEBOOK_ENTRY = _object(
    {"id": st.just(NOTEBOOK_ID), "applicationId": st.just(APPLICATION_ID), "name": TEXT},
    notebookId=st.just(NOTEBOOK_ID),
    description=TEXT,
    jupyterFileName=TEXT,
    jupyterFileUrl=TEXT,
    imageVersion=TEXT,
    inputs=st.lists(_object({"inputType": TEXT, "fileName": TEXT}), max_size=2),
    outputs=st.lists(_object({"outputType": TEXT}), max_size=2),
    stats=_object({}, minutesThisPeriod=st.floats(0, 1e6) | st.integers(0, 10**6)),
    _later=ANYTHING,
)
COUNTS = _object(
    {
        "start": WHEN,
        "end": WHEN,
        "counts": st.lists(_object({"date": WHEN}, minutes=SIZE, completed=SIZE, timeout=SIZE), max_size=3),
    }
)
ANSWERS = {
    "notebooks.get": _object({"items": st.lists(NOTEBOOK_ENTRY, max_size=2)}, totalCount=SIZE),
    "notebook.get": NOTEBOOK_ENTRY,
    "notebook.logs": st.lists(EXECUTION, max_size=2),
    "notebook.execute": _object({"executionId": HEX}, success=st.just(value=True)),
    "notebook.cancelExecution": st.just({"success": True}),
    "notebook.notebookMinuteCounts": COUNTS,
    "notebook.requestInputDataExport": _object({"jobId": st.text(min_size=1, max_size=21)}),
}


def places(answer: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List where something is in an answer, the answer itself first."""
    inner = (
        answer.items() if isinstance(answer, dict) else enumerate(answer if isinstance(answer, list) else ())
    )
    return [above, *(place for key, it in inner for place in places(it, (*above, key)))]


@st.composite
def spoilt(draw: st.DrawFn, good: st.SearchStrategy[Any]) -> Any:
    """Draw an answer in which one thing is another, or is missing."""
    answer = copy.deepcopy(draw(good))
    *above, last = draw(st.sampled_from(places(answer))) or (None,)
    if last is None:
        return draw(ANYTHING)
    inner = answer
    for key in above:
        inner = inner[key]
    if draw(st.booleans()):
        inner[last] = draw(ANYTHING)
    else:
        del inner[last]
    return answer
