# SPDX-License-Identifier: Apache-2.0
"""
Deploy notebooks from a CI pipeline: ``python -m airflow_provider_losant.deploy losant.json [--dry-run]``.

The file lists the notebooks as a seed file of the emulator does. The connection comes from the environment,
so that no Airflow database is needed.
"""

from __future__ import annotations

import argparse
import difflib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.deploy import Difference, Plan
    from airflow_provider_losant.api.http.client import Client
    from airflow_provider_losant.hooks.losant import LosantHook

FIELDS = {
    "description": "description",
    "imageVersion": "image_version",
    "inputs": "inputs",
    "outputs": "outputs",
}
"""The settings that are deployed, in Losant's and in Python's spelling; others are for the emulator only."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy the notebooks, or show what would change; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    # Airflow reports on its own start, which is of no interest here. It reads this when it is imported.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")
    from airflow_provider_losant._compat import AirflowException
    from airflow_provider_losant.api.errors import LosantError
    from airflow_provider_losant.api.http.client import Client
    from airflow_provider_losant.hooks.losant import LosantHook

    try:
        notebooks = _read(options.file)
        hook = LosantHook(options.conn_id)
        # All files are validated before the first notebook is changed.
        plans = [_plan(hook, it, options) for it in notebooks]
        client = Client(hook.settings, _log)
        for plan in plans:
            _deploy(client, plan, dry_run=options.dry_run)
    except (LosantError, AirflowException, OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_losant.deploy",
        description="Deploy notebooks to Losant: upload files and update settings where they differ.",
    )
    parser.add_argument("file", type=Path, help="JSON file that lists the notebooks, such as losant.json")
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    parser.add_argument("--create", action="store_true", help="create notebooks that Losant does not have")
    parser.add_argument(
        "--conn-id", default="losant_default", help="ID of the Airflow connection (default: %(default)s)"
    )
    return parser


def _read(file: Path) -> list[Mapping[str, Any]]:
    """
    Return the notebooks that a file lists, without those that are scripts of the emulator.

    :raises ValueError: the file is not JSON, lists no notebook with a file, or one that has no name.
    """
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))["notebooks"]
        notebooks: list[Mapping[str, Any]] = [
            {**it, "path": file.parent / it["file"]} for it in listed if "file" in it
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not a list of notebooks: {error!r}") from None
    if not notebooks:
        raise ValueError(f"{file} lists no notebook with a file")
    for notebook in notebooks:
        if not (notebook.get("id") or notebook.get("name")):
            raise ValueError(f"{file} lists {notebook['file']} with neither id nor name")
    return notebooks


def _plan(hook: LosantHook, notebook: Mapping[str, Any], options: argparse.Namespace) -> Plan:
    """Return the plan of the upload operator, so that both deploy by the same rules."""
    from airflow_provider_losant.operators.upload import LosantNotebookUploadOperator

    # A notebook with an id exists already, so it is not created.
    notebook_id = notebook.get("id")
    operator = LosantNotebookUploadOperator(
        task_id="deploy",
        path=notebook["path"],
        notebook_id=notebook_id,
        notebook_name=None if notebook_id else notebook["name"],
        create=options.create and not notebook_id,
        losant_conn_id=options.conn_id,
        **{python: notebook.get(losant) for losant, python in FIELDS.items()},
    )
    return operator.plan(hook)


def _deploy(client: Client, plan: Plan, *, dry_run: bool) -> None:
    """Compare a notebook with Losant's, deploy it unless this is a dry run, and print what differs."""
    from airflow_provider_losant.api.flows.deploy import compare, deploy_difference
    from airflow_provider_losant.exceptions import permanent_errors_as_config_error

    name, retries = plan.name or plan.notebook_id, client.settings.max_retries
    with permanent_errors_as_config_error(f"{name}: "):
        difference = client.run(compare(plan, retries))
        steps = list(_steps(plan, difference))
        if steps and not dry_run:
            client.run(deploy_difference(plan, difference, retries))
    verb = "would " if dry_run else ""
    print(f"{name}: {verb}{', '.join(steps)}" if steps else f"{name}: no difference")
    if dry_run:
        for line in _diff(plan, difference):
            print(f"    {line}")


def _log(level: int, message: str, *arguments: object) -> None:
    """Print warnings; what else is done stands in the lines of the notebooks."""
    if level >= logging.WARNING:
        print(message % arguments, file=sys.stderr)


def _steps(plan: Plan, difference: Difference) -> Iterator[str]:
    """Yield what is done to a notebook, in words."""
    if difference.notebook is None:
        yield "create it"
    elif difference.body:
        yield f"update {', '.join(difference.body)}"
    if difference.is_uploaded:
        yield f"upload {plan.content.name}"


def _diff(plan: Plan, difference: Difference) -> Iterator[str]:
    """Yield the lines that differ between Losant's notebook and the one to deploy."""
    current = difference.notebook.raw if difference.notebook else {}
    for field, value in difference.body.items():
        yield from _unified(field, _settings_lines(current.get(field)), _settings_lines(value))
    if difference.is_uploaded:
        yield from _unified(plan.content.name, _cells(difference.current), _cells(plan.content.raw))


def _unified(what: str, current: Sequence[str], planned: Sequence[str]) -> Iterator[str]:
    names = (f"Losant: {what}", f"file: {what}")
    if lines := list(difflib.unified_diff(current, planned, *names, lineterm="", n=1)):
        yield from lines
    else:
        yield f"{what}: only outputs or metadata differ"


def _settings_lines(value: Any) -> list[str]:
    if value is None:
        return []
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).splitlines()


def _cells(content: bytes | None) -> list[str]:
    """Return the source of a notebook's cells, line by line; its outputs and metadata are left out."""
    try:
        cells = json.loads(content or b"{}").get("cells", ())
        sources = [(it["cell_type"], "".join(it["source"])) for it in cells]
    except (ValueError, TypeError, KeyError, AttributeError):
        return ["(not a notebook)"]  # Losant's file may be anything
    return [line for kind, source in sources for line in (f"# {kind}", *source.splitlines(), "")]


if __name__ == "__main__":
    sys.exit(main())
