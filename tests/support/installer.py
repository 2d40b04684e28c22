# SPDX-License-Identifier: Apache-2.0
"""
Let uv install what pip would, from the same package indexes, with a third of the processor time.

Standard library only: used before anything is installed.
"""

from __future__ import annotations

import ast
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

COUNTERPARTS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
"""Settings of pip that decide from where it installs, with the variable that says the same to uv."""
SECTIONS = ("global", "install", ":env:")
"""The parts of pip's configuration; a later one takes precedence."""


def pip_install(python: Path) -> list[str]:
    """Return the command by which pip installs packages, without the packages."""
    return [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]


def uv_install(python: Path) -> list[str]:
    """Return the command by which uv, which pip has installed, installs packages, without the packages."""
    # Compiled once now, and not by each of the processes that import a module first at the same time.
    return [str(python.with_name("uv")), "pip", "install", "--python", str(python), "--compile-bytecode"]


def uv_environment(pip_configuration: Iterable[str]) -> dict[str, str]:
    """
    Return the environment in which uv installs from where pip does. What is set for uv itself stays.

    :param pip_configuration: The lines of ``pip config list``.
    """
    settings = sorted(_settings(pip_configuration), key=lambda it: SECTIONS.index(it[0]))
    translated = {
        COUNTERPARTS[name]: _separated(COUNTERPARTS[name], value)
        for _, name, value in settings
        if name in COUNTERPARTS
    }
    # pip takes the best version of all indexes, and trusts the certificates of the machine.
    return {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "1"} | translated | dict(os.environ)


def _settings(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Read lines such as ``global.timeout='60'``: return section, name and value of each."""
    for line in lines:
        key, is_setting, value = line.partition("=")
        section, has_name, name = key.partition(".")
        if is_setting and has_name and section in SECTIONS:
            yield section, name.removeprefix("."), str(ast.literal_eval(value))


def _separated(variable: str, value: str) -> str:
    """Join the parts of a value as uv separates them; pip does it by spaces and line breaks."""
    return ("," if variable == "UV_FIND_LINKS" else " ").join(value.split())
