# SPDX-License-Identifier: Apache-2.0
"""A second web server of a running Airflow, with other settings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests

from tests.support.processes import Process, free_port, wait_for

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow


@contextmanager
def second_server(
    airflow: LocalAirflow,
    name: str,
    arguments: Sequence[str],
    *,
    setting: str,
    health: str,
    env: Mapping[str, str],
    prefix: str = "",
    timeout: float = 120,
) -> Iterator[str]:
    """
    Run it while the block lasts, and yield its address.

    :param name: Its name in reports.
    :param arguments: The subcommand of ``airflow``, with all arguments except the port and the workers.
    :param setting: The environment variable that shows Airflow the address.
    :param health: The path that responds once the server is ready.
    :param env: More environment, in addition to that of the Airflow.
    :param prefix: Where the web pages are, below the root of the host.
    :param timeout: Seconds until it is ready; a request may take half of them.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}{prefix}"
    command = [sys.executable, "-m", "airflow", *arguments, "--port", str(port), "--workers", "1"]
    log = airflow.home / "components" / f"{name}.log"
    server = Process(name, command, env=airflow.environment | {setting: url} | dict(env), log=log)

    def is_ready() -> bool:
        assert server.is_running, server.tail()
        try:
            return requests.get(f"{url}{health}", timeout=timeout / 2).ok
        except requests.ConnectionError:
            return False

    server.start()
    try:
        wait_for(is_ready, what=f"a second web server, see {log}", timeout=timeout)
        yield url
    finally:
        server.stop(grace=2)
