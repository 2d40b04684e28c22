# SPDX-License-Identifier: Apache-2.0
"""Modules import only from their own layer or a lower one; I/O and Airflow's version have one home each."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.source_files import PACKAGE, imports, modules, tree


def in_emulator(module: str) -> bool:
    return is_within(module, f"{PACKAGE}.emulator")


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


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


@pytest.mark.skipif(find_spec("importlinter") is None, reason="the extra lint is not installed")
def test_layers_are_respected_and_there_is_no_import_cycle() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    command = [str(lint_imports), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Contracts: \d+ kept, 0 broken", done.stdout)


def test_the_layers_without_io_need_only_the_standard_library() -> None:
    foreign = {
        f"{name}: {it.name}"
        for name, file in modules().items()
        if is_within(name, f"{PACKAGE}.api") and not is_within(name, f"{PACKAGE}.api.http")
        for it in imports(file)
        if it.name.split(".")[0] not in {*sys.stdlib_module_names, PACKAGE}
    }

    assert foreign == set()


@pytest.mark.parametrize(
    ("library", "allowed"),
    [("requests", {"client", "session"}), ("aiohttp", {"async_client", "async_connection"})],
)
def test_each_http_library_is_imported_by_its_client_only(library: str, allowed: set[str]) -> None:
    users = {
        name
        for name, file in modules().items()
        if not in_emulator(name)
        for it in imports(file)
        if is_within(it.name, library) and not it.for_types_only
    }

    assert users <= {f"{PACKAGE}.api.http.{name}" for name in allowed}


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
