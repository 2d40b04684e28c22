# SPDX-License-Identifier: Apache-2.0
"""Check the commands that a page shows, without running them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from airflow.configuration import conf
from packaging.requirements import Requirement

from airflow_provider_losant.api.settings import Settings
from tests.support.paths import ROOT

PLACEHOLDERS = {
    "<the token>": "token",
    "<token>": "token",
    "<application id>": "575ec8687ae143cd83dc4a97",
}
TOOLS = {"airflow", "bash", "cd", "curl", "dot", "git", "lint-imports", "mkdir", "source"}
TOOLS |= {"pre-commit", "sha256sum"}
"""Programs of which only the name is judged, unless there is more to say below."""


def problems_of(command: list[str]) -> Iterator[str]:
    """Yield what is wrong with a command, in words."""
    words = command[1:] if command[0] == "export" else command
    while words and (given := re.fullmatch(r"(\w+)=(.*)", words[0], re.DOTALL)):
        yield from problems_of_variable(given[1], given[2])
        words = words[1:]
    if words:
        yield from problems_of_program(*words)


def problems_of_program(program: str, *arguments: str) -> Iterator[str]:
    if re.fullmatch(r"(\S*/)?python3?", program):
        yield from problems_of_python(*arguments)
    elif program == "pip":
        yield from problems_of_pip(*arguments)
    elif program == "airflow" and not airflow_takes(arguments):
        yield f"airflow does not take {arguments}"
    elif program == "bash" and not (ROOT / arguments[0]).exists():
        yield f"there is no {arguments[0]}"
    elif program.rpartition("/")[2] not in TOOLS:
        yield f"unknown program {program}"


def problems_of_variable(name: str, value: str) -> Iterator[str]:
    if name.startswith("AIRFLOW_CONN_"):
        accept_connection(value)
    setting = re.fullmatch(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", name)
    if setting and not is_setting(*(it.lower() for it in setting.groups())):
        yield f"Airflow has no setting {name}"


def problems_of_pip(_install: str, *arguments: str) -> Iterator[str]:
    wanted = [Requirement(it) for it in arguments if not it.startswith("-")]
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    for it in wanted:
        if it.name == "airflow-provider-losant":
            yield from (f"no extra {name}" for name in it.extras if f"\n{name} = [" not in extras)


def problems_of_python(switch: str, module: str, *rest: str) -> Iterator[str]:
    if switch != "-m" or find_spec(module) is None:
        yield f"python has no {switch} {module}"
        return
    known = options_of(module, rest)
    for it in rest:
        if it.startswith("-") and not re.search(rf"(?<![\w-]){re.escape(it)}(?![\w-])", known):
            yield f"{module} has no option {it}"
        if it.startswith("tests/") and not (ROOT / it).exists():
            yield f"there is no {it}"


def options_of(module: str, rest: Sequence[str]) -> str:
    """Return what a module says about its options, which may depend on the words that follow."""
    if module == "tests":  # hands over to pytest, which learns more of the folders that it is given
        return help_of("pytest", *(it for it in rest if it.startswith("tests/"))) + " --airflow --lowest"
    return help_of(module, *(rest[:1] if module == "twine" else ()))


def airflow_takes(arguments: Sequence[str]) -> bool:
    from airflow.cli.cli_parser import get_parser

    try:
        get_parser().parse_args(arguments)
    except SystemExit:
        return False
    return True


@cache
def help_of(*words: str) -> str:
    """Ask a module for its options, in a process of its own."""
    command = [sys.executable, "-m", *words, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def accept_connection(text: str) -> None:
    for placeholder, value in PLACEHOLDERS.items():
        text = text.replace(placeholder, value)
    fields = json.loads(text)
    assert fields["conn_type"] == "losant"
    assert fields.keys() <= {"conn_type", "host", "port", "password", "extra", "description"}
    read_settings(fields)


def read_settings(fields: dict[str, Any]) -> None:
    extra = fields.get("extra", {})
    known = {"application_id", "app_url", "timeout", "max_retries", "allow_http", "verify"}
    assert extra.keys() <= known
    host, port = fields.get("host"), fields.get("port")
    Settings.from_connection(host=host, port=port, token=fields["password"], extra=extra, user_agent="docs")


def is_setting(section: str, option: str) -> bool:
    return option in conf.configuration_description.get(section, {}).get("options", {})
