# SPDX-License-Identifier: Apache-2.0
"""Check a connection, and report the first problem found in one sentence."""

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
"""An id that no notebook has: calls for it have no effect, but show which scopes a token has."""


def check_connection(application_id: str, token: str, clock: Clock = time.time) -> Flow[tuple[bool, str]]:
    """
    Check host, token, application, and the scopes that running a notebook needs.

    It changes nothing in Losant, and does not retry, because a user waits for the result in a browser.

    :param token: The API token; its expiry is read from it if it is a JWT.
    :return: Whether notebooks can be run, and a sentence about it for the user.
    """
    end = expiry(token)
    if end is not None and end.timestamp() <= clock():
        return False, f"The API token expired on {end:%Y-%m-%d at %H:%M} UTC (its exp claim)"
    try:
        is_usable, message = yield from _check_scopes(application_id)
    except LosantError as error:
        return False, _explain(error)
    has_expiry = is_usable and end is not None
    return is_usable, f"{message}; the token expires on {end:%Y-%m-%d}" if has_expiry else message


def expiry(token: str) -> datetime | None:
    """Return when a token expires; None if it is not a JWT or has no ``exp`` claim."""
    try:
        claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (*SHAPE_ERRORS, IndexError, OverflowError, OSError):
        return None


def _explain(error: LosantError) -> str:
    """Describe an error, and name the field of the connection to check."""
    match error:
        case NotLosantApi():
            return str(error)
        case TlsError():
            return f"{error}; for a private certificate authority, set verify to its CA bundle"
        case ResponseError(type="", is_transient=False):
            return (
                f"The host returned {error.status}, but not in Losant's format; check that it is Losant's API"
            )
        case TransportError() | ProtocolError():
            return f"{error}; check that the host is Losant's API"
        case NotFound():
            return f"{error}; check application_id, and that the token belongs to that application"
        case _:
            return str(error)


def _check_scopes(application_id: str) -> Flow[tuple[bool, str]]:
    application = f"application {application_id}"
    missing, unchecked = [], ""
    try:
        page: Page = yield endpoints.list_notebooks(application_id, per_page=1)
        application = f"{page.total} notebook{'s' * (page.total != 1)} in {application}"
    except Forbidden:
        missing.append("notebooks.get")
        try:
            yield endpoints.get_application(application_id)
        except Forbidden:
            missing[0] += " (or application.get)"
            unchecked = f", so {application} could not be checked"
    required = yield from _missing_scopes_to_run(application_id)
    missing += required
    if not missing:
        return True, f"Connected to Losant: {application}"
    problem = f"the token lacks the scope{'s' * (len(missing) > 1)} {' and '.join(missing)}{unchecked}"
    if required or unchecked:
        return False, f"Connected to Losant, but {problem}"
    return True, f"Connected to Losant: {application}, but {problem}, so it cannot list notebooks"


def _missing_scopes_to_run(application_id: str) -> Flow[list[str]]:
    """Return the missing ones of the scopes for submitting, cancelling and polling an execution."""
    nonexistent = ExecutionRef(
        application_id=application_id, notebook_id=NONEXISTENT_ID, execution_id=NONEXISTENT_ID
    )
    calls: list[endpoints.Call[Any]] = [
        endpoints.execution_logs(application_id, NONEXISTENT_ID, limit=1, since=0),
        endpoints.cancel_execution(nonexistent),
    ]
    missing = []
    for call in calls:
        try:
            yield call
        except Forbidden:
            missing.append(call.scope or call.operation)
        except (BadRequest, NotFound):
            pass  # the notebook does not exist: Losant checks this after the scope
    return missing
