# SPDX-License-Identifier: Apache-2.0
"""Which connections are valid, and the errors of those that are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.api import defaults
from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.settings import Settings, api_address, parse_extra
from tests.support.factories import APPLICATION_ID, EXECUTION_ID, NOTEBOOK_ID

TOKEN = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"


def from_connection(
    host: str | None = None, port: int | str | None = None, token: str | None = TOKEN, **extra: Any
) -> Settings:
    return Settings.from_connection(host=host, port=port, token=token, extra=extra, user_agent="test")


def test_a_connection_needs_only_a_token() -> None:
    assert from_connection() == Settings(token=TOKEN, user_agent="test")
    assert from_connection().base_url == "https://api.losant.com"


@pytest.mark.parametrize("extra", [{}, dict.fromkeys(["timeout", "max_retries", "app_url", "verify"], "")])
def test_an_empty_field_of_the_form_is_ignored(extra: dict[str, Any]) -> None:
    assert from_connection(host="", application_id="", allow_http="", **extra) == from_connection()


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("api.losant.com", None, "https://api.losant.com"),
        (" api.losant.com/ ", None, "https://api.losant.com"),
        ("https://api.losant.com/", None, "https://api.losant.com"),
        ("HTTPS://API.Losant.com", None, "https://api.losant.com"),
        ("api.private.example", 8443, "https://api.private.example:8443"),
        ("api.private.example:8443", None, "https://api.private.example:8443"),
        ("https://api.private.example:8443", None, "https://api.private.example:8443"),
        ("https://api.private.example:1", 8443, "https://api.private.example:8443"),
        ("https://[2001:db8::1]", 8443, "https://[2001:db8::1]:8443"),
        ("[2001:db8::1]:8443", None, "https://[2001:db8::1]:8443"),
        ("http://localhost:8080", None, "http://localhost:8080"),
        ("http://127.0.0.1", 8080, "http://127.0.0.1:8080"),
        ("http://127.8.9.1", None, "http://127.8.9.1"),
        ("http://[::1]:8080", None, "http://[::1]:8080"),
        ("::1", None, "https://[::1]"),
        ("2001:DB8:0::1", 8443, "https://[2001:db8::1]:8443"),
        ("http://::1", 8080, "http://[::1]:8080"),
        ("https://::1/", None, "https://[::1]"),
        ("http://localhost.", None, "http://localhost"),
        ("api_gateway", None, "https://api_gateway"),
    ],
)
def test_a_host_is_a_name_or_an_address_in_any_spelling(host: str, port: int | None, url: str) -> None:
    assert from_connection(host, port).base_url == url


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("api.losant.com:443", None, "https://api.losant.com"),
        ("https://api.losant.com:443/", None, "https://api.losant.com"),
        ("api.losant.com", 443, "https://api.losant.com"),
        ("api.losant.com.", None, "https://api.losant.com"),
        ("https://API.losant.com.:443", None, "https://api.losant.com"),
        ("api.losant.com:80", None, "https://api.losant.com:80"),
        ("http://localhost:80", None, "http://localhost"),
        ("http://localhost", 443, "http://localhost:443"),
        ("https://[2001:0db8::0001]:443", None, "https://[2001:db8::1]"),
        ("https://LÖSANT.example", None, "https://xn--lsant-jua.example"),
        ("xn--lsant-jua.example", None, "https://xn--lsant-jua.example"),
    ],
)
def test_each_spelling_of_a_host_is_reduced_to_one(host: str, port: int | None, url: str) -> None:
    assert from_connection(host, port).base_url == url
    assert api_address(host, port).geturl() == url


@pytest.mark.parametrize(
    "host",
    [
        "ftp://api.losant.com",
        "https://user:secret@api.losant.com",
        "https://:secret@api.losant.com",
        "https://api.losant.com/v1",
        "https://api.losant.com?x=1",
        "https://api.losant.com#x",
        "https://api.losant.com:port",
        "https://api.losant.com:99999",
        "https://[::1",
        "api losant com",
        "2001:db8::1::2",
        "fe80::1%eth0",
        "://",
        "https://",
        "http:///",
        "https:api.losant.com",
        "https:/api.losant.com",
        "https://https://api.losant.com",
        "//api.losant.com",
        "https",
        "/",
        ".",
        "api..losant.com",
        "api.losant.com..",
        "api.lo\nsant.com",
        "stra\u00dfe.example",
        "a" * 64 + ".example",
        "api.losant.com/v1",
        "user@api.losant.com",
        "user:secret@api.losant.com/v1",
    ],
)
def test_an_invalid_host_is_refused_by_name_without_showing_a_password(host: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^host: ") as caught:
        from_connection(host)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "port", [-1, 65536, "-1", "65536", "https", "8443x", [], 10**400], ids=lambda it: repr(it)[:9]
)
def test_an_invalid_port_is_refused_by_name(port: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^port: "):
        from_connection("api.losant.com", port)


@pytest.mark.parametrize(
    ("port", "url"), [("8443", "https://api.losant.com:8443"), ("443", defaults.URL), ("", defaults.URL)]
)
def test_a_secrets_backend_may_have_the_port_as_text(port: str, url: str) -> None:
    assert from_connection("api.losant.com", port).base_url == url


@pytest.mark.parametrize(
    "host", ["http://api.losant.com", "http://10.0.0.1", "http://0.0.0.0", "http://localhost.example"]
)
def test_a_token_is_never_sent_unencrypted_to_another_machine(host: str) -> None:
    with pytest.raises(InvalidArgument, match="unencrypted"):
        from_connection(host)


@pytest.mark.parametrize("flag", [True, "true", "True", "1", "yes", "y", 1], ids=repr)
def test_a_token_is_sent_unencrypted_only_with_the_explicit_option(flag: object) -> None:
    assert from_connection("http://10.0.0.1", allow_http=flag).base_url == "http://10.0.0.1"


@pytest.mark.parametrize("flag", [False, "false", "0", "no", "", None, 0], ids=repr)
def test_a_flag_that_is_off_in_any_spelling_is_off(flag: object) -> None:
    with pytest.raises(InvalidArgument, match="unencrypted"):
        from_connection("http://10.0.0.1", allow_http=flag)


def test_a_flag_that_is_neither_on_nor_off_is_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match=r"^allow_http: 'perhaps' is neither true nor false"):
        from_connection(allow_http="perhaps")


@pytest.mark.parametrize("token", [None, "", "  "])
def test_a_missing_token_is_reported(token: str | None) -> None:
    with pytest.raises(InvalidArgument, match=r"^password: is empty; set it to the Losant API token$"):
        from_connection(token=token)


@pytest.mark.parametrize("token", ["two words", "tok\nen", "tökén", "tok\x00en"])
def test_a_token_that_cannot_be_a_header_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^password: ") as caught:
        from_connection(token=token)

    assert token not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (f"Bearer {TOKEN}", "begins with 'Bearer'; enter the API token without Bearer"),
        (f"bearer {TOKEN}", "without Bearer"),
        (f"  Bearer\t{TOKEN}\n", "without Bearer"),
        (f"Bearer+{TOKEN}", "without Bearer"),
        (f"Authorization: Bearer {TOKEN}", "without Bearer"),
        (f'"Bearer {TOKEN}"', "without Bearer"),
        ("Bearer", "without Bearer"),
        (f'"{TOKEN}"', "is in quotation marks; enter the API token without them"),
        (f"'{TOKEN}'", "is in quotation marks"),
        (f"\u201c{TOKEN}\u201d", "is in quotation marks"),
        (f'{TOKEN}"', "is in quotation marks"),
        (TOKEN.replace(".", ".\n", 1), "contains a blank or a line end"),
        (f"losant {TOKEN}", "contains a blank or a line end"),
        (f"\ufeff{TOKEN}", "contains characters that are not valid"),
    ],
    ids=repr,
)
def test_a_token_that_was_copied_with_more_than_the_token_is_refused_and_the_message_says_what(
    token: str, says: str
) -> None:
    with pytest.raises(InvalidArgument, match=r"^password: ") as caught:
        from_connection(token=token)

    assert says in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("key", ["Token", "api_token", "accessToken"])
def test_a_token_in_extra_is_named_by_its_key(key: str) -> None:
    extra: dict[str, Any] = {key: TOKEN}
    with pytest.raises(InvalidArgument, match=f"its key '{key}' in extra is not read$") as caught:
        from_connection(token=None, **extra)

    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("around", [" {} ", "{}\n", "\r\n{}\r\n", "\t{}"], ids=repr)
def test_blanks_and_line_ends_around_a_token_are_ignored(around: str) -> None:
    assert from_connection(token=around.format(TOKEN)).token == TOKEN


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("applicationId", "application_id"),
        ("application-id", "application_id"),
        ("applicationID", "application_id"),
        ("Application ID", "application_id"),
        ("aplication_id", "application_id"),
        ("app_id", "application_id"),
        ("extra__losant__application_id", "application_id"),
        ("appUrl", "app_url"),
        ("timeOut", "timeout"),
        ("timeouts", "timeout"),
        ("maxRetries", "max_retries"),
        ("retries", "max_retries"),
        ("allowHTTP", "allow_http"),
        ("verify_ssl", "verify"),
        ("ssl_verify", "verify"),
        ("Verify", "verify"),
    ],
)
def test_another_spelling_of_a_key_of_extra_is_refused_and_named(key: str, meant: str) -> None:
    says = f"^extra: has the key '{key}', which is not read; rename it to '{meant}'$"
    extra: dict[str, Any] = {key: "x"}
    empty: dict[str, Any] = {meant: ""}
    with pytest.raises(InvalidArgument, match=says):
        from_connection(**extra, **empty)

    with pytest.raises(InvalidArgument, match=says):
        from_connection(**extra)


def test_other_keys_of_extra_are_kept_as_not_read() -> None:
    settings = from_connection(
        owner="energy team", team_token="?", application_id=APPLICATION_ID, applicationId=1
    )

    assert settings.unread_keys == ("owner", "team_token", "applicationId")
    empty: dict[str, Any] = dict.fromkeys(["timeout", "verify", "app_url"], "")
    assert from_connection(**empty).unread_keys == ()


@pytest.mark.parametrize(
    ("text", "extra"),
    [(None, {}), ("", {}), (" ", {}), ("null", {}), ("{}", {}), ('{"timeout": 5}', {"timeout": 5})],
)
def test_extra_is_an_object_or_empty(text: str | None, extra: dict[str, Any]) -> None:
    assert parse_extra(text) == extra


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (json.dumps(json.dumps({"token": "secret"})), "it may have been encoded twice"),
        ('"secret"', "is a JSON text, not a JSON object"),
        ('["secret"]', "is JSON, but not an object such as"),
        ("17", "is JSON, but not an object such as"),
        ("true", "is JSON, but not an object such as"),
        ('{"secret": ', "is not valid JSON"),
        ("{'token': 'secret'}", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
    ],
    ids=lambda it: it[:20],
)
def test_an_extra_that_is_no_object_is_refused_without_showing_it(text: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^extra: ") as caught:
        parse_extra(text)

    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "app_url",
    [
        "losant.example",
        "//losant.example",
        "/applications",
        "applications/{application_id}",
        "https://",
        "https:losant.example",
        "https://?x",
        "https://losant.example:port",
        "https://losant .example",
        "https://losant.example/a b",
        "ftp://losant.example",
        "javascript:alert(1)//https://losant.example",
        "https://user:secret@losant.example",
    ],
)
def test_a_web_ui_address_that_makes_no_link_is_refused_by_name(app_url: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^app_url: ") as caught:
        from_connection(app_url=app_url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "app_url",
    ["http://10.0.0.1:8080", "HTTPS://Losant.example", "https://{application_id}.example", "https://[::1]/x"],
)
def test_a_web_ui_address_is_any_http_url(app_url: str) -> None:
    assert from_connection(app_url=app_url).app_url == app_url


def test_the_token_is_in_no_repr() -> None:
    assert TOKEN not in repr(from_connection()) + str(from_connection())


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("timeout", 5, 5.0),
        ("timeout", "2.5", 2.5),
        ("timeout", 1e12, defaults.LONGEST),
        ("max_retries", 0, 0),
        ("max_retries", "7", 7),
        ("application_id", APPLICATION_ID.upper(), APPLICATION_ID),
        ("app_url", "https://ui.example/", "https://ui.example"),
        ("verify", False, False),
        ("verify", "False", False),
        ("verify", "true", True),
        ("verify", None, True),
    ],
    ids=repr,
)
def test_each_extra_is_accepted_as_json_or_as_text(name: str, value: Any, kept: object) -> None:
    assert getattr(from_connection(**{name: value}), name) == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 0),
        ("timeout", -5),
        ("timeout", "long"),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", []),
        ("timeout", 10**400),
        ("max_retries", 10**400),
        ("timeout", True),
        ("max_retries", -1),
        ("max_retries", "many"),
        ("application_id", "my-application"),
        ("verify", "/no/such/bundle.pem"),
        ("verify", "/" + "x" * 5000),
        ("verify", "-----BEGIN CERTIFICATE-----\n" + "x" * 5000),
    ],
    ids=lambda it: repr(it)[:40],
)
def test_an_invalid_extra_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: "):
        from_connection(**{name: value})


def test_the_content_of_a_file_of_keys_is_not_shown() -> None:
    with pytest.raises(InvalidArgument, match="enter the path of the CA bundle") as caught:
        from_connection(verify="-----BEGIN PRIVATE KEY----- s3cret")

    assert "s3cret" not in str(caught.value)


def test_a_ca_bundle_is_given_by_its_path(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()

    assert from_connection(verify=str(bundle)).verify == str(bundle)


@pytest.mark.parametrize(
    ("app_url", "link"),
    [
        (None, f"https://app.losant.com/applications/{APPLICATION_ID}/notebooks/{NOTEBOOK_ID}"),
        ("https://ui.example/", f"https://ui.example/applications/{APPLICATION_ID}/notebooks/{NOTEBOOK_ID}"),
        (
            "https://ui.example/{notebook_id}#{execution_id}",
            f"https://ui.example/{NOTEBOOK_ID}#{EXECUTION_ID}",
        ),
        ("https://ui.example/{application_id}/{other}", f"https://ui.example/{APPLICATION_ID}/{{other}}"),
    ],
)
def test_a_link_leads_to_the_notebook_on_the_web_url(app_url: str | None, link: str) -> None:
    settings = from_connection(app_url=app_url)

    assert (
        settings.notebook_url(
            application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, execution_id=EXECUTION_ID
        )
        == link
    )
