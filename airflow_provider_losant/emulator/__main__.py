# SPDX-License-Identifier: Apache-2.0
"""The emulator as a command: ``python -m airflow_provider_losant.emulator``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_provider_losant.emulator.seed import Seed
from airflow_provider_losant.emulator.server import Emulator


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal says to stop."""
    parser = _parser()
    wanted = parser.parse_args(arguments)
    try:
        seed = Seed.read(wanted.seed) if wanted.seed else None
        _serve(wanted, seed)
    except (OSError, ValueError) as error:
        parser.exit(1, f"The emulator cannot go on: {error}\n")
    return 0


def _serve(wanted: argparse.Namespace, seed: Seed | None) -> None:
    application = dict(seed.application) if seed else {}
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    losant = Emulator(
        token=wanted.token,
        port=wanted.port,
        files_port=wanted.files_port,
        data_dir=wanted.data_dir,
        host=wanted.host,
        request_log=wanted.request_log,
        application_id=application.get("id"),
        application_name=application.get("name", "Local application"),
    )
    with losant:
        notebooks = seed.sow(losant) if seed else {}
        if wanted.ready_file:
            _tell(wanted.ready_file, losant, notebooks)
        if not wanted.quiet:
            print(f"Losant API {losant.url}  files {losant.files_url}  application {losant.application_id}")
            print("This is no production server.", flush=True)
        stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_losant.emulator",
        description="Run a local Losant. It is no production server.",
    )
    parser.add_argument("--port", type=int, default=0, help="port of the API (default: any free one)")
    parser.add_argument(
        "--files-port", type=int, default=0, help="port of the result files (default: any free one)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--token", help="text of the default access token (default: an invented one)")
    parser.add_argument("--data-dir", type=Path, help="folder in which everything outlives the emulator")
    parser.add_argument("--seed", type=Path, help="JSON file with an application and notebooks to begin with")
    parser.add_argument("--request-log", type=Path, help="file that gets one JSON line for each request")
    parser.add_argument(
        "--ready-file", type=Path, help="file to write addresses, ids and the token to, once serving"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    return parser


def _tell(path: Path, losant: Emulator, notebooks: dict[str, str]) -> None:
    told: dict[str, Any] = {
        "url": losant.url,
        "files_url": losant.files_url,
        "application_id": losant.application_id,
        "token": losant.token,
        "pid": os.getpid(),
        "notebooks": notebooks,
    }
    unfinished = path.with_name(path.name + ".part")
    unfinished.unlink(missing_ok=True)
    # Nobody else may read the token, and whoever waits for the file finds it whole.
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as ready:
        json.dump(told, ready)
    unfinished.replace(path)


if __name__ == "__main__":
    sys.exit(main())
