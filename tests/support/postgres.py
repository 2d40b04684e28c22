# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL on loopback, from what the system's package installed, for as long as a block lasts."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from sqlalchemy import create_engine, text

from tests.support.processes import free_port, wait_for

USER = "airflow"


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs; None where they or Airflow's drivers are not."""
    if not (find_spec("psycopg2") and find_spec("asyncpg")):
        return None
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(debian, key=lambda path: int(path.parts[-3]), default=shutil.which("initdb"))
    return None if newest is None else Path(newest).parent


@contextmanager
def best_database() -> Iterator[str | None]:
    """Yield the address of a database that takes several writers at once; None where there is only SQLite."""
    folder = programs()
    if folder is None:
        yield None
        return
    with LocalPostgres(folder) as running:
        yield running.url


def execute(url: str, statement: str, **values: object) -> list[tuple[Any, ...]]:
    """Carry out an SQL statement behind Airflow's back; return the rows that it found or changed."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]
    finally:
        engine.dispose()


class LocalPostgres:
    """
    Run a database server with a data folder of its own.

    PostgreSQL refuses to be run by root, who lends it to a user without rights.

    :param folder: Its programs.
    """

    def __init__(self, folder: Path) -> None:
        self._programs = folder
        self._port = free_port()
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its one database, as SQLAlchemy spells it."""
        return f"postgresql+psycopg2://{USER}@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="losant-postgres-"))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._popen is not None:
            self._popen.send_signal(signal.SIGINT)  # its "fast shutdown": nobody is waited for
            try:
                self._popen.wait(15)
            except subprocess.TimeoutExpired:
                self._popen.send_signal(signal.SIGQUIT)
                self._popen.wait(15)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        as_whom: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = _without_rights()
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            as_whom = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = str(self._folder / "data")
        make = [self._programs / "initdb", "-D", data, "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8"]
        done = subprocess.run(
            make, cwd=self._folder, capture_output=True, text=True, timeout=60, check=False, **as_whom
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "off",
        }
        serve = [self._programs / "postgres", "-D", data]
        serve += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "server.log").open("wb") as log:
            self._popen = subprocess.Popen(
                serve, cwd=self._folder, stdout=log, stderr=log, start_new_session=True, **as_whom
            )
        wait_for(self._is_ready, what="PostgreSQL to take connections", timeout=30)

    def _is_ready(self) -> bool:
        probe = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        return subprocess.run(probe, timeout=10, check=False).returncode == 0


def _without_rights() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
