# SPDX-License-Identifier: Apache-2.0
"""List the source files of the project, and read what each module imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT

PACKAGE = "airflow_provider_losant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """An imported name, and whether only the type checker imports it."""

    name: str
    line: int
    for_types_only: bool


@cache
def modules() -> dict[str, Path]:
    """Map the dotted name of each module of the package to its file; a package has its folder's name."""
    found = {}
    for file in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imports(file: Path) -> Iterator[Import]:
    """
    Yield what a module imports, at its top or anywhere below.

    ``from a import b`` yields ``a.b``, for b may be a module.
    """
    typing_only = {
        id(node)
        for block in ast.walk(tree(file))
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{file}:{node.lineno} imports relatively; layers are read from full names"
            )
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield Import(name=name, line=node.lineno, for_types_only=id(node) in typing_only)


def own_files(*suffixes: str) -> list[Path]:
    """List the files of the project with these suffixes, without generated ones."""
    folders = ("airflow_provider_losant", "docs", "example_dags", "tests")
    found = (file for folder in folders for file in (ROOT / folder).rglob("*") if file.suffix in suffixes)
    return sorted(file for file in found if not {"_build", "__pycache__"} & set(file.parts))
