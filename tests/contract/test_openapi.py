# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI description is valid, and the emulator does what it says."""

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
from tests.contract.api_client import ApiClient
from tests.contract.request_generator import ANY_JSON, valid, with_one_change
from tests.support.hypothesis_settings import seldom

DESCRIPTION = describe()
SCHEMAS = DESCRIPTION["components"]["schemas"]
OPERATIONS_BY_NAME = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
}
JSON = {"Content-Type": "application/json"}
BODIES = st.binary(max_size=40) | ANY_JSON.map(lambda it: json.dumps(it).encode())
HEX = st.text("0123456789abcdef", min_size=24, max_size=24)


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    root = Resource.from_contents(DESCRIPTION, default_specification=DRAFT202012)
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
    assert DESCRIPTION["openapi"] == "3.1.0"
    assert list(OPERATIONS_BY_NAME) == sorted(OPERATIONS_BY_NAME, key=[it.name for it in OPERATIONS].index)
    assert set(OPERATIONS_BY_NAME) == set(RESPONSES) == {it.name for it in OPERATIONS}
    assert len(OPERATIONS_BY_NAME) == 12


def test_every_reference_exists_and_every_schema_is_valid() -> None:
    for reference in references(DESCRIPTION):
        assert reference.removeprefix("#/components/schemas/") in SCHEMAS
    assert set(references(DESCRIPTION)) | {"#/components/schemas/Execution"} >= {
        f"#/components/schemas/{name}" for name in SCHEMAS
    }
    for schema in SCHEMAS.values():
        validator_for(schema, default=Draft202012Validator).check_schema(schema)


def test_every_id_in_a_path_is_a_parameter() -> None:
    for _, path, operation in OPERATIONS_BY_NAME.values():
        names = [it["name"] for it in operation["parameters"] if it["in"] == "path"]
        assert re.findall(r"\{(\w+)\}", path) == names
        assert {"400", "401", "403", "404"} < set(operation["responses"])


def test_the_emulator_serves_its_description(losant: Emulator) -> None:
    served = requests.get(f"{losant.url}/_emulator/openapi.json", timeout=5).json()

    assert served == describe(losant.url)
    assert served["servers"] == [{"url": losant.url}]


# -- the emulator against it ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def executed() -> Iterator[tuple[ApiClient, str, str]]:
    """Yield a client, the id of a notebook and the id of its execution, which has ended."""
    with Emulator() as losant:
        client = ApiClient(losant)
        notebook = losant.add_notebook()
        losant.script(notebook, Script(ending="errored", files={"a.csv": b"1"}, errors=(("E", "m"),)))
        execution_id = client.execute(notebook, templateContext="{}", relativeTo=0)
        losant.switches.export_interval = 0.0
        yield client, notebook, execution_id
        client.session.close()


def query_for(operation: dict[str, Any], execution_id: str) -> st.SearchStrategy[dict[str, str]]:
    parameters = {it["name"]: it for it in operation["parameters"] if it["in"] == "query"}
    drawn = {
        name: st.just(execution_id) | valid(it["schema"], SCHEMAS)
        if name == "executionId"
        else st.integers(-5, 2_000).map(str) | valid(it["schema"], SCHEMAS)
        if "enum" not in it["schema"]
        else valid(it["schema"], SCHEMAS) | st.text(max_size=4)
        for name, it in parameters.items()
    }
    required = {name: drawn.pop(name) for name, it in parameters.items() if it["required"]}
    return st.fixed_dictionaries(required, optional=drawn) | st.fixed_dictionaries({}, optional=drawn)


def send(client: ApiClient, method: str, url: str, **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {client.losant.token}"} | options.pop("headers", {})
    return client.session.request(method, url, headers=headers, timeout=10, **options)


def is_allowed(operation: dict[str, Any], path: dict[str, str], query: dict[str, str], body: Any) -> bool:
    """Return whether the description allows a request."""
    for parameter in operation["parameters"]:
        values = path if parameter["in"] == "path" else query
        if parameter["name"] in values:
            if not validator(parameter["schema"]).is_valid(values[parameter["name"]]):
                return False
        elif parameter["required"]:
            return False
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" not in content:
        return True
    return body is not None and validator(content["application/json"]["schema"]).is_valid(body)


@pytest.mark.parametrize(
    "name", [it for it in OPERATIONS_BY_NAME if it not in {"notebook.upload", "notebook.delete"}]
)
def test_every_response_is_as_described(executed: tuple[ApiClient, str, str], name: str) -> None:
    client, notebook, execution_id = executed
    method, template, operation = OPERATIONS_BY_NAME[name]
    bodies: st.SearchStrategy[Any] = st.none()
    if "requestBody" in operation:
        good = valid(operation["requestBody"]["content"]["application/json"]["schema"], SCHEMAS)
        bodies = good | with_one_change(good)

    @seldom
    @given(
        st.sampled_from((notebook, notebook, notebook.upper(), None)) | HEX,
        query_for(operation, execution_id),
        bodies,
    )
    def check(notebook_id: str | None, query: dict[str, str], body: Any) -> None:
        ids = {"applicationId": client.losant.application_id, "notebookId": notebook_id or "no-id"}
        url = client.losant.url + template.format(**ids)
        sent = {} if body is None else {"data": json.dumps(body), "headers": JSON}
        response = send(client, method, url, params=query, **sent)

        status = str(response.status_code)
        assert status in operation["responses"], response.text
        schema = operation["responses"][status]["content"]["application/json"]["schema"]
        assert [error.message for error in validator(schema).iter_errors(response.json())] == []
        path = {key: it for key, it in ids.items() if f"{{{key}}}" in template}
        if not has_format(body):
            assert (status != "400") is is_allowed(operation, path, query, body), response.text

    check()


def has_format(body: Any) -> bool:
    """Return whether a body has fields with a format, which JSON Schema need not check."""
    return isinstance(body, dict) and bool({"email", "callbackUrl"} & set(body))


@seldom
@given(BODIES, st.text('ab/.\\\x00é"', max_size=12))
def test_the_response_to_any_upload_is_as_described(
    executed: tuple[ApiClient, str, str], content: bytes, name: str
) -> None:
    client, notebook, _ = executed
    url = f"{client.losant.url}/applications/{client.losant.application_id}/notebooks/{notebook}/upload"

    response = send(client, "POST", url, files={"jupyterFile": (name, content)})

    described = OPERATIONS_BY_NAME["notebook.upload"][2]["responses"][str(response.status_code)]
    assert validator(described["content"]["application/json"]["schema"]).is_valid(response.json())
    stored = [it for it in client.losant.backend.folder.rglob("*") if it.is_file()]
    assert {it.suffix for it in stored} <= {".ipynb", ".csv", ".zip"}
    if response.ok:
        assert client.losant.backend.notebook_path(notebook).read_bytes() == content


@seldom
@given(st.sampled_from(sorted(OPERATIONS_BY_NAME)), BODIES | st.just(b"[" * 100_000), st.text(max_size=30))
def test_no_request_causes_an_undescribed_response(
    executed: tuple[ApiClient, str, str], name: str, body: bytes, token: str
) -> None:
    client, notebook, _ = executed
    method, template, operation = OPERATIONS_BY_NAME[name]
    ids = {"applicationId": client.losant.application_id, "notebookId": notebook}
    authorization = f"Bearer {token}".encode()
    headers = {"Content-Type": "application/json", "Authorization": authorization.replace(b"\n", b"").strip()}
    url = client.losant.url + template.format(**ids)

    response = requests.request(
        method, url, data=body, headers=without_control_characters(headers), timeout=10
    )

    assert str(response.status_code) in operation["responses"], response.text


def without_control_characters(headers: dict[str, Any]) -> dict[str, Any]:
    value = bytes(it for it in headers["Authorization"] if it >= 32 and it != 127)
    return headers | {"Authorization": value.strip()}
