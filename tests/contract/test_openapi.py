# SPDX-License-Identifier: Apache-2.0
"""The local Losant does what its description says, and the description is one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.emulator.http.openapi import RESPONSES, describe
from airflow_provider_losant.emulator.http.operations import OPERATIONS
from tests.contract.conftest import Client
from tests.contract.request_generator import JUNK, doubtful, fitting
from tests.support.hypothesis_settings import seldom

DESCRIBED = describe()
SCHEMAS = DESCRIBED["components"]["schemas"]
BY_NAME = {
    told["operationId"]: (method.upper(), path, told)
    for path, methods in DESCRIBED["paths"].items()
    for method, told in methods.items()
}
JSON = {"Content-Type": "application/json"}
CONTENTS = st.binary(max_size=40) | JUNK.map(lambda it: json.dumps(it).encode())
HEX = st.text("0123456789abcdef", min_size=24, max_size=24)


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    root = Resource.from_contents(DESCRIBED, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:api", root)
    absolute = json.loads(json.dumps(schema).replace('"#/', '"urn:api#/'))
    return Draft202012Validator(absolute, registry=registry)


# -- the description itself -------------------------------------------------------------------------------


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for it in value:
            yield from references(it)


def test_the_description_names_every_operation_once() -> None:
    assert DESCRIBED["openapi"] == "3.1.0"
    assert list(BY_NAME) == sorted(BY_NAME, key=[it.name for it in OPERATIONS].index)
    assert set(BY_NAME) == set(RESPONSES) == {it.name for it in OPERATIONS}
    assert len(BY_NAME) == 12


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    for reference in references(DESCRIBED):
        assert reference.removeprefix("#/components/schemas/") in SCHEMAS
    assert set(references(DESCRIBED)) | {"#/components/schemas/Execution"} >= {
        f"#/components/schemas/{name}" for name in SCHEMAS
    }
    for schema in SCHEMAS.values():
        validator_for(schema, default=Draft202012Validator).check_schema(schema)


def test_every_id_in_a_path_is_a_parameter() -> None:
    for _, path, told in BY_NAME.values():
        named = [it["name"] for it in told["parameters"] if it["in"] == "path"]
        assert re.findall(r"\{(\w+)\}", path) == named
        assert {"400", "401", "403", "404"} < set(told["responses"])


def test_the_local_losant_gives_its_description(losant: Emulator) -> None:
    served = requests.get(f"{losant.url}/_emulator/openapi.json", timeout=5).json()

    assert served == describe(losant.url)
    assert served["servers"] == [{"url": losant.url}]


# -- the local Losant against it --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy() -> Iterator[tuple[Client, str, str]]:
    """Give a local Losant with a notebook that has run, and the ids of both."""
    with Emulator() as losant:
        client = Client(losant)
        notebook = losant.add_notebook()
        losant.script(notebook, Script(ending="errored", files={"a.csv": b"1"}, errors=(("E", "m"),)))
        run = client.execute(notebook, templateContext="{}", relativeTo=0)
        losant.switches.export_interval = 0.0
        yield client, notebook, run
        client.session.close()


def query_for(told: dict[str, Any], run: str) -> st.SearchStrategy[dict[str, str]]:
    given_ = {it["name"]: it for it in told["parameters"] if it["in"] == "query"}
    drawn = {
        name: st.just(run) | fitting(it["schema"], SCHEMAS)
        if name == "executionId"
        else st.integers(-5, 2_000).map(str) | fitting(it["schema"], SCHEMAS)
        if "enum" not in it["schema"]
        else fitting(it["schema"], SCHEMAS) | st.text(max_size=4)
        for name, it in given_.items()
    }
    needed = {name: drawn.pop(name) for name, it in given_.items() if it["required"]}
    return st.fixed_dictionaries(needed, optional=drawn) | st.fixed_dictionaries({}, optional=drawn)


def ask(client: Client, method: str, url: str, **more: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {client.losant.token}"} | more.pop("headers", {})
    return client.session.request(method, url, headers=headers, timeout=10, **more)


def allows(told: dict[str, Any], path: dict[str, str], query: dict[str, str], body: Any) -> bool:
    """Tell whether a request is one that the description allows."""
    for parameter in told["parameters"]:
        values = path if parameter["in"] == "path" else query
        if parameter["name"] in values:
            if not validator(parameter["schema"]).is_valid(values[parameter["name"]]):
                return False
        elif parameter["required"]:
            return False
    content = told.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return True
    return body is not None and validator(content["application/json"]["schema"]).is_valid(body)


@pytest.mark.parametrize("name", [it for it in BY_NAME if it not in {"notebook.upload", "notebook.delete"}])
def test_every_request_is_answered_as_described(busy: tuple[Client, str, str], name: str) -> None:
    client, notebook, run = busy
    method, template, told = BY_NAME[name]
    bodies: st.SearchStrategy[Any] = st.none()
    if "requestBody" in told:
        good = fitting(told["requestBody"]["content"]["application/json"]["schema"], SCHEMAS)
        bodies = good | doubtful(good)

    @seldom
    @given(st.sampled_from((notebook, notebook, notebook.upper(), None)) | HEX, query_for(told, run), bodies)
    def check(notebook_id: str | None, query: dict[str, str], body: Any) -> None:
        ids = {"applicationId": client.losant.application_id, "notebookId": notebook_id or "no-id"}
        url = client.losant.url + template.format(**ids)
        sent = {} if body is None else {"data": json.dumps(body), "headers": JSON}
        answer = ask(client, method, url, params=query, **sent)

        status = str(answer.status_code)
        assert status in told["responses"], answer.text
        schema = told["responses"][status]["content"]["application/json"]["schema"]
        assert [error.message for error in validator(schema).iter_errors(answer.json())] == []
        path = {key: it for key, it in ids.items() if f"{{{key}}}" in template}
        if not has_format(body):
            assert (status != "400") is allows(told, path, query, body), answer.text

    check()


def has_format(body: Any) -> bool:
    """Tell whether a body has what is checked by its format, which JSON Schema leaves open."""
    return isinstance(body, dict) and bool({"email", "callbackUrl"} & set(body))


@seldom
@given(CONTENTS, st.text('ab/.\\\x00é"', max_size=12))
def test_an_upload_is_answered_as_described_whatever_its_file(
    busy: tuple[Client, str, str], content: bytes, name: str
) -> None:
    client, notebook, _ = busy
    url = f"{client.losant.url}/applications/{client.losant.application_id}/notebooks/{notebook}/upload"

    answer = ask(client, "POST", url, files={"jupyterFile": (name, content)})

    told = BY_NAME["notebook.upload"][2]["responses"][str(answer.status_code)]
    assert validator(told["content"]["application/json"]["schema"]).is_valid(answer.json())
    kept = [it for it in client.losant.backend.folder.rglob("*") if it.is_file()]
    assert {it.suffix for it in kept} <= {".ipynb", ".csv"}
    if answer.ok:
        assert client.losant.backend.notebook_path(notebook).read_bytes() == content


@seldom
@given(st.sampled_from(sorted(BY_NAME)), CONTENTS | st.just(b"[" * 100_000), st.text(max_size=30))
def test_no_request_whatever_breaks_it(
    busy: tuple[Client, str, str], name: str, body: bytes, token: str
) -> None:
    client, notebook, _ = busy
    method, template, told = BY_NAME[name]
    ids = {"applicationId": client.losant.application_id, "notebookId": notebook}
    authorization = f"Bearer {token}".encode()
    headers = {"Content-Type": "application/json", "Authorization": authorization.replace(b"\n", b"").strip()}
    url = client.losant.url + template.format(**ids)

    answer = requests.request(method, url, data=body, headers=_sendable(headers), timeout=10)

    assert str(answer.status_code) in told["responses"], answer.text


def _sendable(headers: dict[str, Any]) -> dict[str, Any]:
    value = bytes(it for it in headers["Authorization"] if it >= 32 and it != 127)
    return headers | {"Authorization": value.strip()}
