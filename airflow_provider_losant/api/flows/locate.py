# SPDX-License-Identifier: Apache-2.0
"""
Find the notebook of a task by its name, and the execution of an earlier try if it has been renamed since.

If a user renames the notebook between two tries, the retry finds another one by the name, or none. The
execution of the earlier try is then in the log of a notebook whose id is not known, unless it was stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from airflow_provider_losant.api.errors import InvalidArgument, LosantError, NotFound
from airflow_provider_losant.api.flows.notebooks import find_notebook, last_updated, list_notebooks
from airflow_provider_losant.api.flows.reconnect import SubmissionUnknown, pause
from airflow_provider_losant.api.flows.steps import LogLine, Sleep
from airflow_provider_losant.api.flows.wait import is_worth_retrying

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.reconnect import EarlierTry, ExecutionFinder
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.model import Execution, Notebook

MAX_NOTEBOOKS = 100
"""Notebooks whose logs are searched; those with the latest executions come first."""
MAX_SEARCH = 3_600.0
"""Seconds after which no further log is read; each may wait for the end of an outage."""
LATEST_FIRST = {"sortField": "lastExecutionRequested", "sortDirection": "desc"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """
    Where a task's execution runs.

    :param earlier: The execution of an earlier try to reconnect to.
    :param is_searched: There is no other execution of an earlier try.
    """

    notebook_id: str
    earlier: Execution | None = None
    is_searched: bool = False


def locate_notebook(finder: ExecutionFinder, *, former_id: str | None, is_retry: bool) -> Flow[Located]:
    """
    Return the notebook of the submission's name, or that of an earlier try's execution to reconnect to.

    The second may have another name by now. A new execution runs in the notebook that has the name now.

    :param former_id: ID of the notebook that the latest earlier try of the owner has found, if it is known.
    :param is_retry: An earlier try may have submitted an execution.
    :raises InvalidArgument: none or several have the name, and there is no execution of an earlier try.
    :raises SubmissionUnknown: an execution of an earlier try can neither be found nor ruled out.
    """
    submission, outage = finder.submission, finder.policy.max_poll_outage
    if not is_retry:
        return Located(notebook_id=(yield from _find_notebook(finder)).id)
    if former_id is not None and (submission.owner or submission.known_id):
        earlier = yield from _find_in_former(finder.in_notebook(former_id))
        if earlier is not None:
            return Located(notebook_id=former_id, earlier=earlier)
        found = yield from _find_notebook(finder, outage)
        return Located(notebook_id=found.id, is_searched=found.id == former_id)
    named, problem = None, None
    try:
        named = yield from _find_notebook(finder, outage)
    except InvalidArgument as error:
        problem = error
    except LosantError as error:
        raise finder.unknown(error) from error
    if submission.owner is None or (named is not None and not _may_be_renamed(named, finder)):
        if named is None:
            raise finder.unknown(problem) from problem
        return Located(notebook_id=named.id)
    earlier = yield from _find_in_all_notebooks(finder, named)
    if earlier is not None:
        return Located(notebook_id=earlier.ref.notebook_id, earlier=earlier)
    if named is None:
        raise problem or AssertionError
    yield LogLine("No execution from an earlier try to reconnect to in any notebook; submitting a new one")
    return Located(notebook_id=named.id, is_searched=True)


def _find_notebook(finder: ExecutionFinder, max_outage: float = 0.0) -> Flow[Notebook]:
    submission, policy = finder.submission, finder.policy
    return find_notebook(
        submission.application_id,
        submission.notebook_name or "",
        policy.retries,
        max_outage=max_outage,
        is_worth_retrying=is_worth_retrying,
        clock=finder.clock,
        jitter=finder.jitter,
    )


def _find_in_former(finder: ExecutionFinder) -> Flow[Execution | None]:
    try:
        return (yield from finder.find_earlier())
    except SubmissionUnknown as error:
        if isinstance(error.__cause__, NotFound):
            return None  # it was deleted, and its executions with it
        raise


def _may_be_renamed(notebook: Notebook, finder: ExecutionFinder) -> bool:
    """
    Tell whether a notebook may have got its name after the first try.

    It has not if its last update was before, because a rename is an update.
    """
    updated = last_updated(notebook)
    return updated is None or updated.timestamp() >= _first_try(finder)


def _find_in_all_notebooks(finder: ExecutionFinder, named: Notebook | None) -> Flow[Execution | None]:
    """
    Return the execution of an earlier try to reconnect to; None if a complete search shows none.

    Logs may lag, so they are searched again after ``max_log_lag``.

    :param named: The notebook that has the name now, if one has.
    :raises SubmissionUnknown: a log cannot be read, or there are too many.
    """
    started_at = finder.clock()
    for search in count():
        is_last = finder.clock() - started_at >= finder.policy.max_log_lag
        if named is not None:
            earlier = yield from finder.in_notebook(named.id).search_earlier(whole=True)
            if earlier.found or earlier.is_last_shown:
                return earlier.found
            if is_last:
                finder.check_complete(earlier.reading)
        if search == 0:
            yield LogLine(
                "The notebook may have been renamed since the earlier try; searching the logs of the "
                "application's other notebooks"
            )
        if search == 0 or is_last:
            elsewhere = yield from _search_others(finder, named, started_at + MAX_SEARCH, is_last=is_last)
            if is_last or elsewhere is not None:
                return None if elsewhere is None else elsewhere.found
        yield Sleep(pause(search))
    raise AssertionError  # the loop above only ends by return or raise


def _search_others(
    finder: ExecutionFinder, named: Notebook | None, give_up_at: float, *, is_last: bool
) -> Flow[EarlierTry | None]:
    """Return what shows the earlier try; None if no notebook does that was executed since the first try."""
    policy = finder.policy
    try:
        notebooks = yield from list_notebooks(finder.submission.application_id, LATEST_FIRST, policy.retries)
    except LosantError as error:
        raise finder.unknown(error) from error
    others = [it for it in notebooks if named is None or it.id != named.id]
    for notebook in others[:MAX_NOTEBOOKS]:
        if finder.clock() >= give_up_at:
            raise finder.unknown("The logs of the application's notebooks could not be read in time")
        other = finder.in_notebook(notebook.id)
        try:
            earlier = yield from other.search_earlier(whole=True)
        except LosantError as error:
            if isinstance(error.__cause__, NotFound):
                continue  # it was deleted, and its executions with it
            raise
        if earlier.found or earlier.is_last_shown:
            return earlier
        newest = max((it.queued_time for it in earlier.listed), default=None)
        if newest is not None and newest < _first_try(finder):
            return None  # those that follow were executed even earlier
        if is_last:
            other.check_complete(earlier.reading)
    if len(others) > MAX_NOTEBOOKS and is_last:
        raise finder.unknown(f"More than {MAX_NOTEBOOKS} notebooks were executed since the first try")
    return None


def _first_try(finder: ExecutionFinder) -> float:
    policy = finder.policy
    return policy.back_to if policy.first_try_after is None else policy.first_try_after
