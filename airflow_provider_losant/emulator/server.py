# SPDX-License-Identifier: Apache-2.0
"""The emulator as a whole: a thread that serves two ports, and the Python interface to them."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from airflow_provider_losant.emulator.faults import Fault, Faults
from airflow_provider_losant.emulator.http.app import Api
from airflow_provider_losant.emulator.http.control import Control
from airflow_provider_losant.emulator.http.fault_injector import FaultInjector
from airflow_provider_losant.emulator.http.files import Files
from airflow_provider_losant.emulator.requestlog import Request, RequestLog
from airflow_provider_losant.emulator.runtime.callbacks import Callbacks
from airflow_provider_losant.emulator.runtime.worker import Worker
from airflow_provider_losant.emulator.state.backend import Backend
from airflow_provider_losant.emulator.state.identity import Signer, object_id
from airflow_provider_losant.emulator.state.model import Notebook
from airflow_provider_losant.emulator.state.storage import Storage
from airflow_provider_losant.emulator.state.timeline import Execution
from airflow_provider_losant.emulator.switches import Switches

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.timeline import Script

LARGEST_UPLOAD = 64 * 1024**2
# Of callers who all come at once, none is to try again after a second.
BACKLOG = 4096


class Emulator:
    """
    Run a local Losant while the ``with`` block lasts.

    :param token: the text of the default token, which may do everything in the default application.
    :param port: the port of the API; 0 means any free one.
    :param files_port: the port that result files come from; 0 means any free one.
    :param data_dir: a folder in which notebooks and executions outlive the emulator.
    :param host: the address to listen at; nobody but this machine can reach the default.
    :param switches: what nobody knows about Losant.
    :param clock: gives the present in epoch seconds.
    :param request_log: a file that gets one JSON line for each request.
    :param application_id: the id of the default application; an invented one by default.
    :param application_name: the name of the default application.
    :param tls: speak https with this, on both ports.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        port: int = 0,
        files_port: int = 0,
        data_dir: Path | str | None = None,
        host: str = "127.0.0.1",
        switches: Switches | None = None,
        clock: Callable[[], float] = time.time,
        request_log: Path | str | None = None,
        application_id: str | None = None,
        application_name: str = "Local application",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.switches = switches or Switches()
        self.host = host
        self.url = ""
        self._ports = (port, files_port)
        self._tls = tls
        self._temporary = data_dir is None
        folder = Path(tempfile.mkdtemp(prefix="losant-")) if data_dir is None else Path(data_dir).absolute()
        storage = None if data_dir is None else Storage(folder)
        server_state = storage.load_server() if storage else {}
        secret = server_state.get("secret") or secrets.token_hex(32)
        signer = Signer(bytes.fromhex(secret))

        def losants_clock() -> float:
            return clock() + self.switches.clock_skew

        self.backend = Backend(
            clock=losants_clock, switches=self.switches, folder=folder, signer=signer, storage=storage
        )
        for entity in storage.load() if storage else ():
            self.backend.put(
                entity.after_restart(losants_clock()) if isinstance(entity, Execution) else entity
            )
        self.application_id = (
            application_id or server_state.get("application_id") or object_id(losants_clock())
        ).lower()
        if self.application_id not in self.backend.applications:
            self.backend.add_application(application_name, self.application_id)
        self.token = token or server_state.get("token", "")
        if self.token not in self.backend.tokens:
            self.token = self.backend.add_token(self.application_id, ["all.Application"], text=self.token)
        if storage:
            storage.save_server(application_id=self.application_id, token=self.token, secret=secret)
        self._faults = Faults()
        self._log = RequestLog(Path(request_log) if request_log else None)
        self._worker = Worker(self.backend)
        self._callbacks = Callbacks(self.backend)
        self._stopping = asyncio.Event()
        self._injector = FaultInjector(stopping=self._stopping)
        self._runners: list[web.AppRunner] = []

    @property
    def files_url(self) -> str:
        """The address that result files come from."""
        return self.backend.files_url

    @property
    def requests(self) -> list[Request]:
        """What Losant saw, oldest first; a copy."""
        return self._log.all()

    def clear_requests(self) -> None:
        """Forget the requests seen so far."""
        self._log.clear()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="losant-emulator", daemon=True)
        self._thread.start()
        try:
            self._call(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        if self._temporary:
            shutil.rmtree(self.backend.folder, ignore_errors=True)

    def add_application(self, name: str = "Another application") -> str:
        """Make an application; returns its id."""
        return self.backend.add_application(name)

    def add_token(
        self,
        scopes: Sequence[str] = ("all.Application",),
        application_id: str | None = None,
        *,
        expired: bool = False,
    ) -> str:
        """
        Make a token; returns its text.

        :param scopes: what it may do, such as ``notebook.logs``; ``all.Application`` is everything.
        :param application_id: where; by default in the default application.
        :param expired: whether it has expired already.
        """
        return self.backend.add_token(application_id or self.application_id, scopes, expired=expired)

    def add_notebook(
        self,
        name: str = "Notebook",
        *,
        file: Path | str | None = None,
        inputs: Sequence[Mapping[str, Any]] = (),
        outputs: Sequence[Mapping[str, Any]] = (),
        application_id: str | None = None,
        max_run_minutes: float = 5,
        samples: Mapping[str, Path | str] | None = None,
        notebook_id: str | None = None,
    ) -> str:
        """
        Make a notebook, or remake the one with this id; returns its id.

        :param name: what it is called.
        :param file: the ``.ipynb`` to run.
        :param inputs: Losant's input objects.
        :param outputs: Losant's output objects.
        :param application_id: whose it is; by default the default application's.
        :param max_run_minutes: run minutes after which an execution ends as ``timeout``.
        :param samples: for each input file name, the local file that stands for Losant's data.
        :param notebook_id: its id; an invented one by default.
        """
        now = self.backend.clock()
        made = Notebook(
            id=(notebook_id or object_id(now)).lower(),
            application_id=application_id or self.application_id,
            name=name,
            created_at=now,
            updated_at=now,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            max_minutes=max_run_minutes,
            samples={key: Path(path).absolute() for key, path in (samples or {}).items()},
        )
        self.backend.put(made)
        if file is not None:
            self.backend.upload(made, Path(file).name, Path(file).read_bytes())
        return made.id

    def script(self, notebook_id: str, script: Script | None) -> None:
        """
        Let the script decide how later executions of the notebook go; ``None`` lets it run for real again.

        :raises KeyError: when there is no such notebook.
        """
        with self.backend.lock:
            self.backend.put(replace(self.backend.notebooks[notebook_id.lower()], script=script))

    def inject(self, operation: str, fault: Fault, times: int = 1) -> None:
        """Spoil the next requests of an operation, such as ``notebook.logs``; ``*`` means any.

        Those for result files are ordered as ``files.get``.
        """
        self._faults.add(operation, fault, times)

    def clear_faults(self) -> None:
        """Forget the faults that have met no request yet."""
        self._faults.clear()

    def executions(self, notebook_id: str) -> list[dict[str, Any]]:
        """Show all executions of a notebook as its log would, newest first."""
        with self.backend.lock:
            return [
                self.backend.execution_to_api(execution)
                for execution in self.backend.executions(notebook_id.lower())
            ]

    def _call(self, step: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(30)

    async def _start(self) -> None:
        self.url = await self._serve(self._api(), self._ports[0])
        stored = web.Application()
        stored.router.add_route("*", "/{path:.*}", Files(self.backend, self._faults, self._injector).handle)
        self.backend.files_url = await self._serve(stored, self._ports[1])

    def _api(self) -> web.Application:
        api = Api(
            backend=self.backend,
            faults=self._faults,
            log=self._log,
            changed=self._wake,
            injector=self._injector,
        )
        served = web.Application(client_max_size=LARGEST_UPLOAD)
        served.add_routes(Control(self).routes())
        served.router.add_route("*", "/{path:.*}", api.handle)
        return served

    def _wake(self) -> None:
        self._worker.wake()
        self._callbacks.wake()

    async def _serve(self, app: web.Application, port: int) -> str:
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.create_server((self.host, port), family=family, backlog=BACKLOG)
        await web.SockSite(runner, listener, backlog=BACKLOG, ssl_context=self._tls).start()
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{host}:{listener.getsockname()[1]}"

    async def _stop(self) -> None:
        self._stopping.set()
        await self._worker.stop()
        await self._callbacks.stop()
        for runner in self._runners:
            await runner.cleanup()
        await self._loop.shutdown_default_executor()
        # What came in meanwhile is closed in the next turns of the loop, or would be left open for ever.
        for _ in range(3):
            await asyncio.sleep(0)
