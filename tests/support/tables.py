# SPDX-License-Identifier: Apache-2.0
"""
Create the tables of metadata databases.

Airflow's migrations take seconds of CPU time, and the databases of all Airflows in one run of the tests begin
alike. So the first one is migrated, and each other one is a copy of it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import make_url

from tests.support.postgres import programs
from tests.support.shared_process import locked

VARIABLE = "LOSANT_TESTS_TABLES"
"""Environment variable: the folder of the first databases of a run; without it each one is migrated."""


def create_tables(url: str, migrate: Callable[[], None]) -> None:
    """
    Create the tables of an empty database.

    :param url: Of the database, for SQLAlchemy: SQLite or PostgreSQL.
    :param migrate: Creates the tables by Airflow's migrations.
    """
    if VARIABLE not in os.environ:
        migrate()
        return
    folder = Path(os.environ[VARIABLE])
    save, restore = (_save_file, _restore_file) if url.startswith("sqlite") else (_dump, _execute)
    first = folder / make_url(url).get_backend_name()
    with locked(folder / f"{first.name}.lock"):
        if first.exists():
            restore(url, first)
            return
        migrate()
        save(url, first.with_suffix(".part"))
        first.with_suffix(".part").rename(first)


def _save_file(url: str, copy: Path) -> None:
    with closing(sqlite3.connect(_file(url))) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _restore_file(url: str, copy: Path) -> None:
    shutil.copyfile(copy, _file(url))


def _file(url: str) -> str:
    return str(make_url(url).database)


def _dump(url: str, copy: Path) -> None:
    _run("pg_dump", "--file", str(copy), "--dbname", _plain(url))


def _execute(url: str, copy: Path) -> None:
    stop = ("--set", "ON_ERROR_STOP=1", "--single-transaction", "--quiet", "--no-psqlrc")
    _run("psql", *stop, "--file", str(copy), "--dbname", _plain(url))


def _plain(url: str) -> str:
    """Return a URL without SQLAlchemy's driver."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def _run(program: str, *arguments: str) -> None:
    folder = programs()
    assert folder is not None, "a PostgreSQL runs, so its programs exist"
    done = subprocess.run(
        [folder / program, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        raise RuntimeError(f"{program} failed: {done.stderr}")
