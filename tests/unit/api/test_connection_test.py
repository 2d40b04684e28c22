# SPDX-License-Identifier: Apache-2.0
"""The expiry of a token, and what the connection test makes of it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_losant.api.endpoints import Page
from airflow_provider_losant.api.errors import Forbidden, NotFound
from airflow_provider_losant.api.flows.connection_test import check_connection, expiry
from tests.support.factories import APPLICATION_ID
from tests.unit.api.flow_driver import FlowDriver

END = datetime(2027, 1, 15, 8, 0, tzinfo=UTC)


def token(claims: object) -> str:
    return ".".join(urlsafe_b64encode(json.dumps(it).encode()).decode().rstrip("=") for it in ({}, claims, 1))


def driver() -> FlowDriver:
    return FlowDriver([Page(notebooks=[], total=0), NotFound(404, "NotFound", "Notebook was not found")])


@pytest.mark.parametrize("pad", ["", "a", "aa", "aaa"])
def test_the_expiry_is_read_from_the_token(pad: str) -> None:
    assert expiry(token({"exp": END.timestamp(), "pad": pad})) == END


@pytest.mark.parametrize(
    "text",
    [
        "",
        "opaque",
        "a.b.c",
        "..",
        "a.ÿ.c",
        token({}),
        token([]),
        token(None),
        token({"exp": None}),
        token({"exp": "soon"}),
        token({"exp": 1e300}),
        token({"exp": float("nan")}),
    ],
)
def test_a_token_without_a_readable_expiry_is_left_to_losant(text: str) -> None:
    assert expiry(text) is None

    losant = driver()
    assert losant.drive(check_connection(APPLICATION_ID, text, losant.clock))[0]


@pytest.mark.parametrize(("left", "is_well"), [(1.0, True), (0.0, False), (-1.0, False)])
def test_a_token_is_valid_until_the_second_of_its_expiry(left: float, is_well: bool) -> None:
    losant = driver()
    losant.now = END.timestamp() - left

    response = losant.drive(check_connection(APPLICATION_ID, token({"exp": END.timestamp()}), losant.clock))

    assert response[0] is is_well
    assert ("; the token expires on 2027-01-15" in response[1]) is is_well
    assert (response[1] == "The API token expired on 2027-01-15 at 08:00 UTC (its exp claim)") is not is_well
    assert (losant.calls == []) is not is_well


REFUSED = Forbidden(403, "Forbidden", "Access is forbidden")


@pytest.mark.parametrize(
    ("responses", "is_usable", "says"),
    [
        ([Page(notebooks=[], total=1), REFUSED, None], False, "lacks the scope notebook.logs"),
        ([REFUSED, REFUSED, None], False, "(or application.get), so application {} could not be checked"),
        ([REFUSED, None], True, "lacks the scope notebooks.get, so it cannot list notebooks"),
    ],
    ids=["polling", "application", "listing"],
)
def test_only_scopes_that_an_execution_needs_make_the_test_fail(
    responses: list[Any], *, is_usable: bool, says: str
) -> None:
    losant = FlowDriver(responses)

    result, message = losant.drive(check_connection(APPLICATION_ID, "opaque", losant.clock))

    assert result is is_usable
    assert message.endswith(says.format(APPLICATION_ID))
