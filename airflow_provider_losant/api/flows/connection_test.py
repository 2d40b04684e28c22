# SPDX-License-Identifier: Apache-2.0
"""Find out whether a connection is any good, and say in one sentence what is wrong with it."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import (
    SHAPE_ERRORS,
    BadRequest,
    Forbidden,
    LosantError,
    NotFound,
    NotLosantApi,
    ProtocolError,
    ResponseError,
    TlsError,
    TransportError,
)
from airflow_provider_losant.api.model import ExecutionRef

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Page
    from airflow_provider_losant.api.flows.steps import Clock, Flow

NONEXISTENT_ID = "0" * 24
"""The id of no notebook: what is asked about it does nothing, and yet shows what a token may do."""


def check_connection(application_id: str, token: str, clock: Clock = time.time) -> Flow[tuple[bool, str]]:
    """
    Try host, token, application, and the scopes that running a notebook needs.

    Nothing is tried twice, for somebody waits for the answer; and nothing is changed at Losant.

    :return: Whether all is well, and a sentence for that somebody.
    """
    end = expiry(token)
    if end is not None and end.timestamp() <= clock():
        return False, f"The API token expired on {end:%Y-%m-%d at %H:%M} UTC, as it says itself"
    try:
        is_well, said = yield from _ask(application_id)
    except LosantError as error:
        return False, _explain(error)
    is_ending = is_well and end is not None
    return is_well, f"{said}; the token expires on {end:%Y-%m-%d}" if is_ending else said


def expiry(token: str) -> datetime | None:
    """Read in a token when it expires; None where it is no JWT, or does not say."""
    try:
        claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (*SHAPE_ERRORS, IndexError, OverflowError, OSError):
        return None


def _explain(error: LosantError) -> str:
    """Say what went wrong, and where to look."""
    match error:
        case NotLosantApi():
            return str(error)
        case TlsError():
            return f"{error}; if a private authority vouches for it, name its bundle in verify"
        case ResponseError(type="", is_transient=False):
            return f"The host answered {error.status}, but not as Losant does; is it Losant's API?"
        case TransportError() | ProtocolError():
            return f"{error}; is the host right?"
        case NotFound():
            return f"{error}; is application_id right, and the token one of that application?"
        case _:
            return str(error)


def _ask(application_id: str) -> Flow[tuple[bool, str]]:
    application = f"application {application_id}"
    lacking, unseen = [], ""
    try:
        page: Page = yield endpoints.list_notebooks(application_id, per_page=1)
        application = f"{page.total} notebook{'s' * (page.total != 1)} in {application}"
    except Forbidden:
        lacking.append("notebooks.get")
        try:
            yield endpoints.get_application(application_id)
        except Forbidden:
            lacking[0] += " (or application.get)"
            unseen = f", so {application} could not be checked"
    needed = yield from _lacking_to_run(application_id)
    lacking += needed
    if not lacking:
        return True, f"Losant answers: {application}"
    lacks = f"the token lacks the scope{'s' * (len(lacking) > 1)} {' and '.join(lacking)}{unseen}"
    if needed or unseen:
        return False, f"Losant answers, but {lacks}"
    return True, f"Losant answers for {application}, but {lacks}, so it cannot list notebooks"


def _lacking_to_run(application_id: str) -> Flow[list[str]]:
    """Name what a token lacks of the scopes for starting, cancelling and watching a run."""
    nobodys = ExecutionRef(
        application_id=application_id, notebook_id=NONEXISTENT_ID, execution_id=NONEXISTENT_ID
    )
    tries: list[endpoints.Call[Any]] = [
        endpoints.execution_logs(application_id, NONEXISTENT_ID, limit=1, since=0),
        endpoints.cancel_execution(nobodys),
    ]
    lacking = []
    for call in tries:
        try:
            yield call
        except Forbidden:
            lacking.append(call.scope or call.operation)
        except (BadRequest, NotFound):
            pass  # there is no such notebook, which is told only to those whose scopes do
    return lacking
