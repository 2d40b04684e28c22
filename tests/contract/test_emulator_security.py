# SPDX-License-Identifier: Apache-2.0
"""Files need a signature, notebooks write to the data folder only, and parallel requests are not lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from yarl import URL

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.emulator.runtime import kernel
from airflow_provider_losant.emulator.state.identity import Signer
from tests.contract.api_client import ApiClient
from tests.contract.emulator_process import is_alive, wait_for_pid, wait_until, write_notebook
from tests.support.hypothesis_settings import often, seldom

CLIENTS = 200
PARTS = ("path", "expires", "signature", "secret")
ESCAPES = ("../" * 8 + "etc/hostname", "..%2f..%2fetc", "%2e%2e/x", "", "//")
WRITING = "import os; open(os.environ['OUTPUT_DIR'] + '/t.csv', 'w').write('a')"


# -- signatures -------------------------------------------------------------------------------------------


@often
@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=70), st.binary(min_size=16, max_size=16))
@example("/x", "9" * 5_000, "", b"s" * 16)
@example("/x", "٣", "0" * 64, b"s" * 16)
@example("/x", "9", "\ud800", b"s" * 16)
def test_no_guessed_signature_is_valid(path: str, expires: str, signature: str, secret: bytes) -> None:
    assert not Signer(secret).verify(path, expires, signature, now=0.0)


@often
@given(st.sampled_from(PARTS), st.text(max_size=10), st.integers(1, 10**6))
def test_no_part_of_a_signature_can_be_changed(part: str, other: str, seconds: int) -> None:
    query = URL(f"?{Signer(b'secret').sign('/a/outputs/b', seconds)}").query
    original = {"path": "/a/outputs/b", "secret": "secret", **query}
    assert Signer(b"secret").verify(original["path"], original["expires"], original["signature"], now=0.0)
    assume(other != original[part])

    changed = original | {part: other}
    is_same = part == "expires" and other.isascii() and other.isdecimal() and int(other) == seconds
    verified = Signer(changed["secret"].encode()).verify(
        changed["path"], changed["expires"], changed["signature"], now=0.0
    )
    assert verified is is_same


@pytest.fixture(scope="module")
def stored() -> Iterator[tuple[ApiClient, URL]]:
    """Yield a client and the URL of a result file."""
    with Emulator() as losant:
        client = ApiClient(losant)
        notebook_id = losant.add_notebook()
        losant.script(notebook_id, Script(notebook=0, files={"out.csv": b"a,b"}))
        client.execute(notebook_id)
        url = URL(client.wait(notebook_id)["outputInfo"]["out.csv"]["url"], encoded=True)
        yield client, url
        client.session.close()


@seldom
@given(st.sampled_from(ESCAPES) | st.text(max_size=20))
def test_a_signed_url_gives_access_to_its_own_file_only(stored: tuple[ApiClient, URL], suffix: str) -> None:
    client, url = stored
    assume("\x00" not in suffix)
    base, _, query = str(url).partition("?")

    for changed in (f"{base}/{suffix}", f"{base.rpartition('/')[0]}/{suffix}"):
        response = client.session.get(f"{changed}?{query}", timeout=5)
        assert response.status_code in {400, 403, 404} or response.text == "a,b"
    assert client.session.get(str(url), timeout=5).text == "a,b"


# -- folders ----------------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_templates_cannot_write_outside_of_the_data_folder(
    client: ApiClient, losant: Emulator, tmp_path: Path
) -> None:
    data, outside = losant.backend.folder, tmp_path / "outside"
    file = write_notebook(tmp_path / "write.ipynb", WRITING)
    table = {"outputType": "dataTable", "fileName": "t.csv", "dataTableId": "{{place}}"}
    app_file = {
        "outputType": "file",
        "fileName": "t.csv",
        "destinationDirectoryTemplate": "{{place}}",
        "destinationFileNameTemplate": "t.csv",
    }
    notebook_id = losant.add_notebook(file=file, outputs=[table, app_file])
    up = "../" * 12

    client.execute(notebook_id, templateContext=json.dumps({"place": f"{up}{str(outside).lstrip('/')}"}))
    entry = client.wait(notebook_id)

    assert [error["name"] for error in entry["executionErrors"]] == ["OutputError", "OutputError"]
    assert not list(tmp_path.glob("outside*"))
    assert data.is_dir()


@pytest.mark.kernel
@pytest.mark.parametrize("rounds", [1, kernel.KILL_ROUNDS], ids=["one round", "all rounds"])
def test_processes_that_a_notebook_leaves_behind_are_killed(
    client: ApiClient, losant: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(kernel, "KILL_ROUNDS", rounds)
    pid_file = tmp_path / "pid"
    source = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))"
    )
    notebook_id = losant.add_notebook(file=write_notebook(tmp_path / "leave.ipynb", source))

    client.execute(notebook_id)
    assert client.wait(notebook_id)["status"] == "completed"

    child = wait_for_pid(pid_file)
    try:
        wait_until(lambda: not is_alive(child), 5)
    finally:
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


# -- parallel requests ------------------------------------------------------------------------------------


def test_requests_of_two_hundred_parallel_clients_are_not_lost() -> None:
    with Emulator() as losant, ThreadPoolExecutor(CLIENTS) as pool:
        notebook_id = losant.add_notebook()
        losant.script(notebook_id, Script(notebook=0))

        def execute(number: int) -> tuple[str, str]:
            client = ApiClient(losant)
            try:
                return client.execute(notebook_id, templateContext=str(number)), str(number)
            finally:
                client.session.close()

        sent = list(pool.map(execute, range(CLIENTS)))
        logged = [(each["id"], each["templateContext"]) for each in losant.executions(notebook_id)]

    assert sorted(logged) == sorted(sent)
    assert len({execution_id for execution_id, _ in logged}) == CLIENTS
    assert len(losant.requests) == CLIENTS
