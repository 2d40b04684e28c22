# SPDX-License-Identifier: Apache-2.0
"""Strategies for Losant's responses: valid by its reference, and with one defect."""

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
"""Any JSON, and the numbers that only Python reads as JSON."""


def _object(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


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
RESPONSES = {
    "notebooks.get": _object({"items": st.lists(NOTEBOOK_ENTRY, max_size=2)}, totalCount=SIZE),
    "notebook.get": NOTEBOOK_ENTRY,
    "notebook.logs": st.lists(EXECUTION, max_size=2),
    "notebook.execute": _object({"executionId": HEX}, success=st.just(value=True)),
    "notebook.cancelExecution": st.just({"success": True}),
    "notebook.notebookMinuteCounts": COUNTS,
    "notebook.requestInputDataExport": _object({"jobId": st.text(min_size=1, max_size=21)}),
}


def paths(response: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a response, its own first."""
    inner = (
        response.items()
        if isinstance(response, dict)
        else enumerate(response if isinstance(response, list) else ())
    )
    return [prefix, *(path for key, it in inner for path in paths(it, (*prefix, key)))]


@st.composite
def with_one_defect(draw: st.DrawFn, good: st.SearchStrategy[Any]) -> Any:
    """Draw a response in which one value is replaced or missing."""
    response = copy.deepcopy(draw(good))
    *prefix, last = draw(st.sampled_from(paths(response))) or (None,)
    if last is None:
        return draw(ANYTHING)
    inner = response
    for key in prefix:
        inner = inner[key]
    if draw(st.booleans()):
        inner[last] = draw(ANYTHING)
    else:
        del inner[last]
    return response
