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

from airflow_provider_losant.emulator.seed import Seed
from airflow_provider_losant.emulator.server import Emulator


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        seed = Seed.load(options.seed) if options.seed else None
        _serve(options, seed)
    except (OSError, ValueError) as error:
        parser.exit(1, f"The emulator could not start: {error}\n")
    return 0


def _serve(options: argparse.Namespace, seed: Seed | None) -> None:
    application = dict(seed.application) if seed else {}
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    emulator = Emulator(
        token=options.token,
        port=options.port,
        files_port=options.files_port,
        data_dir=options.data_dir,
        host=options.host,
        request_log=options.request_log,
        application_id=application.get("id"),
        application_name=application.get("name", "Local application"),
        repeat_samples=options.repeat_samples,
        smtp=options.smtp,
    )
    with emulator:
        notebooks = seed.apply(emulator.backend, emulator.application_id) if seed else {}
        if options.ready_file:
            _write_ready_file(options.ready_file, emulator, notebooks)
        if not options.quiet:
            urls = f"Losant API {emulator.url}  files {emulator.files_url}"
            print(f"{urls}  application {emulator.application_id}")
            print("Not for production use.", flush=True)
        stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_losant.emulator",
        description="Run a local Losant. Not for production use.",
    )
    parser.add_argument("--port", type=int, default=0, help="port of the API (default: any free port)")
    parser.add_argument(
        "--files-port", type=int, default=0, help="port of the result files (default: any free port)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--token", help="text of the default access token (default: generated)")
    parser.add_argument(
        "--data-dir", type=Path, help="folder in which notebooks, executions and files are kept"
    )
    parser.add_argument("--seed", type=Path, help="JSON file with an application and its notebooks")
    parser.add_argument(
        "--request-log", type=Path, help="file to which one JSON line is appended for each request"
    )
    parser.add_argument(
        "--ready-file", type=Path, help="file to write once serving, with addresses, ids and the token"
    )
    parser.add_argument(
        "--repeat-samples",
        action="store_true",
        help="repeat the samples of device data, so that there are readings at every query time",
    )
    parser.add_argument(
        "--smtp",
        metavar="HOST:PORT",
        help="SMTP server for e-mails (default: none are sent)",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    return parser


def _write_ready_file(path: Path, emulator: Emulator, notebooks: dict[str, str]) -> None:
    content = {
        "url": emulator.url,
        "files_url": emulator.files_url,
        "app_url": emulator.app_url,
        "application_id": emulator.application_id,
        "token": emulator.token,
        "pid": os.getpid(),
        "notebooks": notebooks,
    }
    temporary = path.with_name(path.name + ".part")
    temporary.unlink(missing_ok=True)
    # Other users must not read the token, and a process that waits for the file must find it complete.
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as ready:
        json.dump(content, ready)
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
