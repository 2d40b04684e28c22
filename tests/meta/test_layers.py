# SPDX-License-Identifier: Apache-2.0
"""A module imports only from its own floor or a lower one; I/O and Airflow's version have one home each."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.support.source_files import PACKAGE, Import, imports, modules, tree

# The first pattern that fits decides. A new module that fits none needs a place here first.
FLOORS = {
    r"": 0,  # the package itself: its version
    r"api": 0,
    r"api\.(defaults|errors|fields|model|timestamps|usage)": 0,
    r"hooks|hooks\.connection_form": 1,
    r"api\.(endpoints|payloads|settings)": 1,
    r"api\.flows(\..+)?": 2,
    r"api\.http(\..+)?": 3,
    r"hooks\..+|links(\..+)?|exceptions|_compat": 4,
    r"(triggers|openlineage|assets)(\..+)?": 5,
    r"execution(\..+)?": 7,
    r"(operators|sensors|transfers|decorators)(\..+)?": 7,
    r"get_provider_info": 8,
}
FLOOR_OF_DECISIONS = 2


def in_emulator(module: str) -> bool:
    return is_within(module, f"{PACKAGE}.emulator")


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


# The emulator stands beside the house: no floor, and rules of its own.
HOUSE = [pytest.param(name, file, id=name) for name, file in modules().items() if not in_emulator(name)]


def floor(module: str) -> int | None:
    inner = module.removeprefix(PACKAGE).lstrip(".")
    return next((number for pattern, number in FLOORS.items() if re.fullmatch(pattern, inner)), None)


def module_of(imported: Import) -> str | None:
    """Name the module of ours that an import reaches, or None when it is somebody else's."""
    candidates = (imported.name, imported.name.rpartition(".")[0])
    return next((name for name in candidates if name in modules()), None)


def asks_for_airflow_version(node: ast.AST) -> bool:
    """Tell whether this is one of the ways to find out which Airflow is installed."""
    if isinstance(node, ast.ImportFrom):
        named = {alias.name for alias in node.names}
        asks = node.module == "airflow" and named & {"__version__", "version"}
        return bool(asks) or (node.module or "").startswith(("airflow.version", "packaging"))
    if isinstance(node, ast.Import):
        return any(alias.name.startswith(("airflow.version", "packaging")) for alias in node.names)
    if isinstance(node, ast.Attribute):
        return ast.unparse(node) in {"airflow.__version__", "airflow.version"}
    if isinstance(node, ast.Try):
        # Trying whether a name of Airflow's exists is the same question in other words.
        missing = {"ImportError", "ModuleNotFoundError", "AttributeError"}
        caught = {ast.unparse(handler.type) for handler in node.handlers if handler.type}
        tried = "".join(ast.unparse(statement) for statement in node.body if is_import(statement))
        return bool(caught & missing) and bool(re.search(r"\b(from|import) airflow\b(?!_)", tried))
    return isinstance(node, ast.Call) and bool(
        re.fullmatch(r"(\w+\.)*version\('apache-airflow(-\w+)*'\)", ast.unparse(node))
    )


def is_import(node: ast.AST) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


@pytest.mark.parametrize(("name", "file"), HOUSE)
def test_every_module_has_a_layer(name: str, file: Path) -> None:
    assert floor(name) is not None


@pytest.mark.parametrize(("name", "file"), HOUSE)
def test_a_module_imports_only_from_its_own_layer_or_below(name: str, file: Path) -> None:
    too_high = {
        f"line {it.line}: {it.name}"
        for it in imports(file)
        if (target := module_of(it)) and not in_emulator(target) and (floor(target) or 0) > (floor(name) or 0)
    }

    assert too_high == set()


def test_nothing_imports_the_emulator() -> None:
    importers = {
        name
        for name, file in modules().items()
        if not in_emulator(name)
        for it in imports(file)
        if is_within(it.name, f"{PACKAGE}.emulator")
    }

    assert importers == set()


def test_the_emulator_imports_only_the_value_types_of_the_package() -> None:
    known = {
        target
        for name, file in modules().items()
        if in_emulator(name)
        for it in imports(file)
        if (target := module_of(it)) and not in_emulator(target)
    }

    assert known <= {PACKAGE, f"{PACKAGE}.api.model"}


def test_the_api_and_the_emulator_do_not_import_airflow() -> None:
    knowing = {
        name
        for name, file in modules().items()
        if is_within(name, f"{PACKAGE}.api") or in_emulator(name)
        for it in imports(file)
        if is_within(it.name, "airflow")
    }

    assert knowing == set()


def test_the_layers_without_io_need_only_the_standard_library() -> None:
    foreign = {
        f"{name}: {it.name}"
        for name, file in modules().items()
        if is_within(name, f"{PACKAGE}.api") and (floor(name) or 0) <= FLOOR_OF_DECISIONS
        for it in imports(file)
        if it.name.split(".")[0] not in {*sys.stdlib_module_names, PACKAGE, "pendulum"}
    }

    assert foreign == set()


@pytest.mark.parametrize(
    ("library", "home"), [("requests", "api.http.client"), ("aiohttp", "api.http.async_client")]
)
def test_each_http_library_is_imported_in_one_module(library: str, home: str) -> None:
    homes = {
        name
        for name, file in modules().items()
        if not in_emulator(name)
        for it in imports(file)
        if is_within(it.name, library) and not it.for_types_only
    }

    assert homes <= {f"{PACKAGE}.{home}"}


def test_the_emulator_serves_with_aiohttp_and_never_calls_with_requests() -> None:
    users = {
        name
        for name, file in modules().items()
        if in_emulator(name)
        for it in imports(file)
        if is_within(it.name, "requests")
    }

    assert users == set()


def test_only_compat_checks_the_airflow_version() -> None:
    asking = {
        f"{name}:{getattr(node, 'lineno', 0)}"
        for name, file in modules().items()
        if name != f"{PACKAGE}._compat"
        for node in ast.walk(tree(file))
        if asks_for_airflow_version(node)
    }

    assert asking == set()


@pytest.mark.parametrize(
    "question",
    [
        "from airflow import __version__",
        "import airflow.version",
        "airflow.__version__",
        "from packaging.version import Version",
        "importlib.metadata.version('apache-airflow')",
        "version('apache-airflow-core')",
        "try:\n    from airflow.sdk import X\nexcept ImportError:\n    X = None",
    ],
)
def test_every_form_of_a_version_check_is_recognised(question: str) -> None:
    assert any(asks_for_airflow_version(node) for node in ast.walk(ast.parse(question)))


@pytest.mark.parametrize(
    "innocent",
    [
        "from airflow.sdk import BaseOperator",
        "from airflow_provider_losant import __version__",
        "try:\n    import airflow_provider_losant\nexcept ImportError:\n    pass",
        "try:\n    run()\nexcept AttributeError:\n    pass",
    ],
)
def test_an_ordinary_import_is_not_a_version_check(innocent: str) -> None:
    assert not any(asks_for_airflow_version(node) for node in ast.walk(ast.parse(innocent)))
