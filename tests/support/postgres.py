# SPDX-License-Identifier: Apache-2.0
"""Run a PostgreSQL on loopback, from the system's package."""

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
    """Return the folder of the newest PostgreSQL's programs; None if they or the drivers are missing."""
    if not (find_spec("psycopg2") and find_spec("asyncpg")):
        return None
    debian = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(debian, key=lambda path: int(path.parts[-3]), default=shutil.which("initdb"))
    return None if newest is None else Path(newest).parent


@contextmanager
def best_database() -> Iterator[str | None]:
    """Yield the URL of a database for several writers at the same time; None if there is only SQLite."""
    folder = programs()
    if folder is None:
        yield None
        return
    with LocalPostgres(folder) as running:
        yield running.url


def execute(url: str, statement: str, **values: object) -> list[tuple[Any, ...]]:
    """Execute an SQL statement in Airflow's database; return the rows that it found or changed."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            return [tuple(row) for row in connection.execute(text(statement), values)]
    finally:
        engine.dispose()


class LocalPostgres:
    """
    Run a database server with a data folder of its own while a ``with`` block lasts.

    PostgreSQL refuses to run as root, so root runs it as an unprivileged user.

    :param folder: The folder of its programs.
    """

    def __init__(self, folder: Path) -> None:
        self._programs = folder
        self._port = free_port()
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its database for SQLAlchemy."""
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
            self._popen.send_signal(signal.SIGINT)  # "fast shutdown": does not wait for clients
            try:
                self._popen.wait(15)
            except subprocess.TimeoutExpired:
                self._popen.send_signal(signal.SIGQUIT)
                self._popen.wait(15)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = _unprivileged_user()
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = str(self._folder / "data")
        initdb = str(self._programs / "initdb")
        make = [initdb, "-D", data, "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8"]
        done = subprocess.run(
            make, cwd=self._folder, capture_output=True, text=True, timeout=60, check=False, **as_user
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
        serve = [str(self._programs / "postgres"), "-D", data]
        serve += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "server.log").open("wb") as log:
            self._popen = subprocess.Popen(
                serve, cwd=self._folder, stdout=log, stderr=log, start_new_session=True, **as_user
            )
        wait_for(self._is_ready, what="PostgreSQL to take connections", timeout=30)

    def _is_ready(self) -> bool:
        probe = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        return subprocess.run(probe, timeout=10, check=False).returncode == 0


def _unprivileged_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")  # codespell:ignore nobody
