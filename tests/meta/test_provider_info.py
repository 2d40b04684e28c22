# SPDX-License-Identifier: Apache-2.0
"""The provider info that Airflow reads is valid by Airflow's own schema, and true."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowPlugin
from jsonschema import validate

from airflow_provider_losant import __version__
from airflow_provider_losant.get_provider_info import get_provider_info
from tests.support.paths import ROOT
from tests.support.source_files import PACKAGE, modules, tree

INFO = get_provider_info()
LISTS = ("hooks", "operators", "sensors", "triggers")


def schema(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(files("airflow").joinpath(name).read_text())
    return document


def named(kind: str) -> set[str]:
    return {module for group in INFO[kind] for module in group["python-modules"]}


def dotted_classes() -> list[str]:
    decorators = [it["class-name"] for it in INFO["task-decorators"]]
    return [*decorators, *INFO["extra-links"], *(it["hook-class-name"] for it in INFO["connection-types"])]


def load(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_airflow_accepts_the_description() -> None:
    validate(INFO, schema("provider_info.schema.json"))


def test_airflow_understands_every_key_of_the_connection_form() -> None:
    # The run-time schema tolerates any key, so a misspelt one would be dropped in silence.
    rules = schema("provider.yaml.schema.json")["properties"]["connection-types"]
    known = {"connection-type", "hook-class-name", "hook-name", "ui-field-behaviour", "conn-fields"}

    validate(INFO["connection-types"], rules)
    assert [set(it) - known for it in INFO["connection-types"]] == [{"external-services"}]  # Airflow 3.4


def test_the_description_has_the_form_of_airflows_own_providers() -> None:
    rules = schema("provider.yaml.schema.json")
    since_3_0 = {"asset-uris"}
    only_for_releases_of_airflow = {"state": "ready", "source-date-epoch": 0, "dependencies": []}
    described = {**only_for_releases_of_airflow, **INFO}
    known = {key: value for key, value in described.items() if key in rules["properties"]}

    validate(known, rules)
    assert set(INFO) - set(known) <= since_3_0


def test_registries_read_the_version_of_the_package() -> None:
    assert INFO["versions"] == [__version__]


def test_every_guide_is_a_page_and_every_page_about_an_operator_is_a_guide() -> None:
    guides = [
        *(path for it in INFO["integrations"] for path in it.get("how-to-guide", [])),
        *(it["how-to-guide"] for it in INFO["transfers"]),
    ]
    pages = (ROOT / "docs" / "operators").glob("*.md")

    assert sorted(guides) == sorted(f"/docs/operators/{it.name}" for it in pages)


def test_every_component_belongs_to_a_declared_integration() -> None:
    integrations = {it["integration-name"] for it in INFO["integrations"]}

    assert {group["integration-name"] for kind in LISTS for group in INFO[kind]} <= integrations


@pytest.mark.parametrize("kind", LISTS)
def test_every_declared_module_can_be_imported(kind: str) -> None:
    for module in named(kind):
        importlib.import_module(module)


def test_every_transfer_connects_declared_integrations_and_can_be_imported() -> None:
    integrations = {it["integration-name"] for it in INFO["integrations"]}
    folder = ROOT / PACKAGE / "transfers"

    for it in INFO["transfers"]:
        assert {it["source-integration-name"], it["target-integration-name"]} <= integrations
        importlib.import_module(it["python-module"])
    assert {it["python-module"].rpartition(".")[2] for it in INFO["transfers"]} == {
        file.stem for file in folder.glob("*.py") if file.stem != "__init__"
    }


@pytest.mark.parametrize("kind", LISTS)
def test_every_module_for_dag_authors_is_declared(kind: str) -> None:
    suffix = kind.removesuffix("s").capitalize()
    offering = {
        name
        for name, file in modules().items()
        if name.startswith(f"{PACKAGE}.{kind}.")
        for node in tree(file).body
        if isinstance(node, ast.ClassDef) and node.name.endswith(suffix) and not node.name.startswith("_")
    }

    assert named(kind) == offering


@pytest.mark.parametrize("dotted", dotted_classes())
def test_every_declared_class_exists(dotted: str) -> None:
    assert callable(load(dotted))


def test_airflow_finds_the_plugin_by_its_entry_point() -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        "airflow.plugins"
    ]

    for name, dotted in points.items():
        plugin = load(dotted.replace(":", "."))
        assert issubclass(plugin, AirflowPlugin)
        assert plugin.name == name


def test_every_setting_is_in_the_reference_with_its_default() -> None:
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    settings = {
        f"[{section}] {name}": option["default"]
        for section, it in INFO["config"].items()
        for name, option in it["options"].items()
    }

    assert dict(re.findall(r"^## `(.+?)`\n.*?- Default: `(\w+)`", page, re.MULTILINE | re.DOTALL)) == settings


def test_the_hook_has_the_connection_type_that_declares_it() -> None:
    for it in INFO["connection-types"]:
        assert load(it["hook-class-name"]).conn_type == it["connection-type"]


def test_reading_the_provider_info_imports_nothing_of_airflow() -> None:
    code = (
        "import sys; from airflow_provider_losant.get_provider_info import get_provider_info;"
        "get_provider_info(); print(*sorted(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()

    assert {name for name in loaded if name.split(".")[0] in {"airflow", "aiohttp", "requests"}} == set()
    assert {name.removeprefix(PACKAGE) for name in loaded if name.startswith(PACKAGE)} == {
        "",
        ".get_provider_info",
        ".hooks",
        ".hooks.connection_form",
        ".api",
        ".api.defaults",
    }
