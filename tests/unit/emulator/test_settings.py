# SPDX-License-Identifier: Apache-2.0
"""Switches, faults, tokens and signatures."""

from __future__ import annotations

import pytest

from airflow_provider_losant.emulator.faults import Fault, Faults
from airflow_provider_losant.emulator.state.identity import Signer, Token, object_id, token_text
from airflow_provider_losant.emulator.switches import Switches

NOW = 1_770_000_000.0
SIGNER = Signer(b"secret")


def token(*scopes: str) -> Token:
    return Token(id="6" * 24, text="t", application_id="7" * 24, scopes=scopes)


def test_switches_are_changed_together_or_not_at_all() -> None:
    switches = Switches()

    with pytest.raises(ValueError, match="over_paralel"):
        switches.change({"listing_lag": 3, "over_paralel": "refuse"})

    assert switches == Switches()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("over_parallel", "maybe"),
        ("parallel", "5"),
        ("resign_urls", 1),
        ("parallel", True),
        ("max_limit", 1.5),
    ],
)
def test_a_switch_rejects_an_invalid_value(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        Switches().change({name: value})


def test_a_switch_accepts_every_valid_value() -> None:
    switches = Switches()

    switches.change({"listing_lag": 2, "max_limit": None, "over_parallel": "refuse", "resign_urls": False})

    assert (switches.listing_lag, switches.over_parallel, switches.resign_urls) == (2, "refuse", False)


def test_faults_are_taken_in_order_by_requests_of_their_operation() -> None:
    faults = Faults()
    faults.add("notebook.logs", Fault("html"), times=1)
    faults.add("*", Fault("hang"), times=2)

    taken = [
        faults.take(name) for name in ("notebook.execute", "notebook.logs", "notebook.logs", "notebook.logs")
    ]

    assert [fault and fault.kind for fault in taken] == ["hang", "html", "hang", None]


def test_a_fault_with_an_unknown_kind_or_key_is_rejected() -> None:
    with pytest.raises(ValueError, match="rest_after"):
        Fault.from_json({"kind": "rest_after"})
    with pytest.raises(ValueError, match="times"):
        Fault.from_json({"kind": "hang", "times": 3})


def test_an_id_begins_with_its_creation_time() -> None:
    new_id = object_id(NOW)

    assert (int(new_id[:8], 16), len(new_id)) == (int(NOW), 24)


def test_a_token_has_the_form_of_a_jwt_and_is_not_in_repr() -> None:
    text = token_text("6" * 24, ["all.Application"], NOW, expired=False)

    assert text.startswith("eyJ")
    assert text.count(".") == 2
    assert text not in repr(Token(id="6" * 24, text=text, application_id="7" * 24, scopes=()))


@pytest.mark.parametrize(
    ("scope", "accepts_read_scopes", "allowed"),
    [
        ("notebook.logs", True, True),
        ("notebook.*", True, True),
        ("all.Application", True, True),
        ("all.Organization.bounded", True, True),
        ("all.Application.read", True, True),
        ("all.Application.read", False, False),
        ("notebook.execute", True, False),
        ("all.Device", True, False),
    ],
)
def test_scopes_allow_what_losant_documents(scope: str, *, accepts_read_scopes: bool, allowed: bool) -> None:
    assert (
        token(scope).allows(("notebook.logs", "notebook.*"), accepts_read_scopes=accepts_read_scopes)
        == allowed
    )


def test_application_tokens_see_their_application_only() -> None:
    assert token("all.Application").sees("7" * 24)
    assert not token("all.Application").sees("8" * 24)
    assert token("all.User").sees("8" * 24)


def test_a_signature_is_valid_for_one_file_until_it_expires() -> None:
    query = dict(part.split("=") for part in SIGNER.sign("/a", int(NOW)).split("&"))

    assert SIGNER.verify("/a", **query, now=NOW)
    assert not SIGNER.verify("/a", **query, now=NOW + 1)
    assert not SIGNER.verify("/b", **query, now=NOW)
    assert not SIGNER.verify("/a", **{**query, "expires": str(int(NOW) + 9)}, now=NOW)
    assert not SIGNER.verify("/a", expires="never", signature="é", now=NOW)
