# SPDX-License-Identifier: Apache-2.0
"""Nobody reads a file without its signature, writes outside of the data folder, or gets lost in a crowd."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from yarl import URL

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.emulator.state.identity import Signer
from tests.contract.conftest import Client
from tests.contract.test_emulator_kernel import eventually, is_alive, pid_in, write
from tests.support.hypothesis_settings import often, seldom

CROWD = 200
PARTS = ("path", "expires", "signature", "secret")
ESCAPES = ("../" * 8 + "etc/hostname", "..%2f..%2fetc", "%2e%2e/x", "", "//")
WRITING = "import os; open(os.environ['OUTPUT_DIR'] + '/t.csv', 'w').write('a')"


# -- signatures -------------------------------------------------------------------------------------------


@often
@given(st.text(max_size=40), st.text(max_size=20), st.text(max_size=70), st.binary(min_size=16, max_size=16))
@example("/x", "9" * 5_000, "", b"s" * 16)
@example("/x", "٣", "0" * 64, b"s" * 16)
@example("/x", "9", "\ud800", b"s" * 16)
def test_no_guess_opens_anything(path: str, expires: str, signature: str, secret: bytes) -> None:
    assert not Signer(secret).verify(path, expires, signature, now=0.0)


@often
@given(st.sampled_from(PARTS), st.text(max_size=10), st.integers(1, 10**6))
def test_nothing_of_a_signature_can_be_changed(part: str, other: str, seconds: int) -> None:
    query = URL(f"?{Signer(b'secret').sign('/a/outputs/b', seconds)}").query
    given_ = {"path": "/a/outputs/b", "secret": "secret", **query}
    assert Signer(b"secret").verify(given_["path"], given_["expires"], given_["signature"], now=0.0)
    assume(other != given_[part])

    told = given_ | {part: other}
    is_same = part == "expires" and other.isascii() and other.isdecimal() and int(other) == seconds
    verified = Signer(told["secret"].encode()).verify(
        told["path"], told["expires"], told["signature"], now=0.0
    )
    assert verified is is_same


@pytest.fixture(scope="module")
def stored() -> Iterator[tuple[Client, URL]]:
    """Give the address of a result file, and beside the data folder a file that is nobody's business."""
    with Emulator() as losant:
        client = Client(losant)
        made = losant.add_notebook()
        losant.script(made, Script(notebook=0, files={"out.csv": b"a,b"}))
        client.execute(made)
        url = URL(client.wait(made)["outputInfo"]["out.csv"]["url"], encoded=True)
        yield client, url
        client.session.close()


@seldom
@given(st.sampled_from(ESCAPES) | st.text(max_size=20))
def test_a_signed_address_leads_to_its_own_file_only(stored: tuple[Client, URL], more: str) -> None:
    client, url = stored
    assume("\x00" not in more)
    base, _, query = str(url).partition("?")

    for address in (f"{base}/{more}", f"{base.rpartition('/')[0]}/{more}"):
        answer = client.session.get(f"{address}?{query}", timeout=5)
        assert answer.status_code in {400, 403, 404} or answer.text == "a,b"
    assert client.session.get(str(url), timeout=5).text == "a,b"


# -- folders ----------------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_no_template_leads_out_of_the_data_folder(client: Client, losant: Emulator, tmp_path: Path) -> None:
    data, outside = losant.backend.folder, tmp_path / "outside"
    file = write(tmp_path / "write.ipynb", WRITING)
    table = {"outputType": "dataTable", "fileName": "t.csv", "dataTableId": "{{place}}"}
    published = {
        "outputType": "file",
        "fileName": "t.csv",
        "destinationDirectoryTemplate": "{{place}}",
        "destinationFileNameTemplate": "t.csv",
    }
    made = losant.add_notebook(file=file, outputs=[table, published])
    up = "../" * 12

    client.execute(made, templateContext=json.dumps({"place": f"{up}{str(outside).lstrip('/')}"}))
    entry = client.wait(made)

    assert [error["name"] for error in entry["executionErrors"]] == ["OutputError", "OutputError"]
    assert not list(tmp_path.glob("outside*"))
    assert data.is_dir()


@pytest.mark.kernel
def test_what_a_notebook_leaves_running_does_not_outlive_it(
    client: Client, losant: Emulator, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    source = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))"
    )
    made = losant.add_notebook(file=write(tmp_path / "leave.ipynb", source))

    client.execute(made)
    assert client.wait(made)["status"] == "completed"

    child: Any = pid_in(pid)()
    try:
        eventually(lambda: not is_alive(child) or None, 5)
    finally:
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


# -- a crowd ----------------------------------------------------------------------------------------------


def test_two_hundred_clients_at_once_lose_nothing() -> None:
    with Emulator() as losant, ThreadPoolExecutor(CROWD) as crowd:
        made = losant.add_notebook()
        losant.script(made, Script(notebook=0))

        def one(number: int) -> tuple[str, str]:
            client = Client(losant)
            try:
                return client.execute(made, templateContext=str(number)), str(number)
            finally:
                client.session.close()

        told = list(crowd.map(one, range(CROWD)))
        kept = [(it["id"], it["templateContext"]) for it in losant.executions(made)]

    assert sorted(kept) == sorted(told)
    assert len({run for run, _ in kept}) == CROWD
    assert len(losant.requests) == CROWD
