# SPDX-License-Identifier: Apache-2.0
"""Callbacks and e-mails, and the exports of input data that they refer to."""

from __future__ import annotations

import gc
import io
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import pytest

from airflow_provider_losant.emulator import Emulator, Script, Switches
from airflow_provider_losant.emulator.runtime.notifications import POLL_INTERVAL
from tests.contract.api_client import ApiClient
from tests.contract.emulator_process import EmulatorProcess, wait_until
from tests.support.smtp_server import MailServer

if TYPE_CHECKING:
    from email.message import EmailMessage

REPORT = Script(notebook=0, files={"report.csv": b"a,b\n"})
FAILURE = Script(notebook=0, ending="errored", errors=(("ValueError", "no readings"),))
ADDRESS = "ops@plant.example"


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def losant(mail_server: MailServer) -> Iterator[Emulator]:
    with Emulator(smtp=f"127.0.0.1:{mail_server.port}") as emulator:
        yield emulator


def mails(server: MailServer, count: int = 1) -> list[EmailMessage]:
    """Wait for a number of messages; returns all that there are."""
    wait_until(lambda: len(server.messages) >= count, 10)
    return server.messages


def test_the_callback_is_called_once_at_the_end(client: ApiClient, losant: Emulator) -> None:
    notebook_id = losant.add_notebook()
    losant.script(notebook_id, REPORT)

    with Emulator() as listener:
        execution_id = client.execute(notebook_id, callbackUrl=f"{listener.url}/hook")
        wait_until(lambda: listener.requests, 10)

    (callback,) = listener.requests
    assert (callback.method, callback.path, callback.authorized) == ("POST", "/hook", False)
    assert (callback.body["success"], callback.body["execution"]["id"]) == (True, execution_id)
    assert callback.body["notebook"]["id"] == notebook_id


def test_an_execution_that_is_deleted_before_its_end_is_not_reported(
    client: ApiClient, losant: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    deleted, kept = losant.add_notebook("Deleted"), losant.add_notebook("Kept")
    losant.script(deleted, Script(ending="hang"))
    losant.script(kept, REPORT)

    with Emulator() as listener:
        client.execute(deleted, callbackUrl=f"{listener.url}/deleted")
        client.call("DELETE", f"/notebooks/{deleted}")
        time.sleep(2 * POLL_INTERVAL)
        client.execute(kept, callbackUrl=f"{listener.url}/kept")
        wait_until(lambda: listener.requests, 10)
        gc.collect()  # a task that has failed is logged when it is collected

    assert [it.path for it in listener.requests] == ["/kept"]
    assert caplog.messages == []


def test_an_emulator_that_stops_does_not_wait_for_what_is_still_to_be_reported() -> None:
    with Emulator() as listener:
        with Emulator() as losant:
            notebook_id = losant.add_notebook()
            losant.script(notebook_id, Script(ending="hang"))
            client = ApiClient(losant)
            client.execute(notebook_id, callbackUrl=f"{listener.url}/hook")
            client.session.close()
            began = time.monotonic()

        assert time.monotonic() - began < 10
        assert listener.requests == []


def test_an_email_reports_the_end_of_an_execution_without_the_urls_of_its_outputs(
    client: ApiClient, losant: Emulator, mail_server: MailServer
) -> None:
    notebook_id = losant.add_notebook("Daily\nénergie")
    losant.script(notebook_id, REPORT)

    execution_id = client.execute(notebook_id, email=ADDRESS)
    (mail,) = mails(mail_server)

    assert (mail["To"], mail["Subject"]) == (ADDRESS, "Notebook Daily énergie: completed")
    assert mail.get_content().splitlines() == [
        f"Execution: {execution_id}",
        "Status: completed",
        "Output: report.csv",
        f"Notebook: {losant.app_url}/applications/{losant.application_id}/notebooks/{notebook_id}",
    ]


def test_an_email_reports_failures_and_cancellations_too(
    client: ApiClient, losant: Emulator, mail_server: MailServer
) -> None:
    failing, hanging = losant.add_notebook("Failing"), losant.add_notebook("Hanging")
    losant.script(failing, FAILURE)
    losant.script(hanging, Script(ending="hang"))

    client.execute(failing, email=ADDRESS)
    mails(mail_server)
    client.cancel(hanging, client.execute(hanging, email=ADDRESS))

    failed, canceled = mails(mail_server, 2)
    assert failed["Subject"] == "Notebook Failing: errored"
    assert "Error: ValueError: no readings" in failed.get_content().splitlines()
    assert canceled["Subject"] == "Notebook Hanging: canceled"


def test_an_execution_without_an_address_sends_no_email(
    client: ApiClient, losant: Emulator, mail_server: MailServer
) -> None:
    notebook_id = losant.add_notebook()
    losant.script(notebook_id, REPORT)

    client.execute(notebook_id)
    last = client.execute(notebook_id, email=ADDRESS)

    (mail,) = mails(mail_server)
    assert last in mail.get_content()


def test_an_unreachable_mail_server_is_logged_and_has_no_effect_on_the_execution(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with Emulator(smtp=f"127.0.0.1:{port}") as losant, caplog.at_level(logging.WARNING):
        client = ApiClient(losant)
        notebook_id = losant.add_notebook("Energy")
        losant.script(notebook_id, REPORT)
        client.execute(notebook_id, email=ADDRESS)
        wait_until(lambda: caplog.messages, 10)
        entry = client.wait(notebook_id)
        client.session.close()

    assert entry["status"] == "completed"
    (message,) = caplog.messages
    assert message.startswith(f"The e-mail 'Notebook Energy: completed' to {ADDRESS} could not be sent: ")
    assert "Connection refused" in message


def test_an_address_that_no_message_can_have_is_logged(
    client: ApiClient, losant: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    notebook_id = losant.add_notebook("Energy")
    losant.script(notebook_id, REPORT)

    with caplog.at_level(logging.WARNING):
        client.execute(notebook_id, email="a;@-=-.u?,é=,<")
        wait_until(lambda: caplog.messages, 10)

    (message,) = caplog.messages
    assert message.startswith("The e-mail 'Notebook Energy: completed' to a;@-=-.u?,é=,< could not be sent: ")


@pytest.mark.parametrize("address", ["", "localhost", ":25", "localhost:", "localhost:0", "localhost:smtp"])
def test_an_invalid_address_of_the_mail_server_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="the address of the SMTP server must be HOST:PORT"):
        Emulator(smtp=address)


def test_the_command_sends_emails(tmp_path: Path, mail_server: MailServer) -> None:
    seed = tmp_path / "seed.json"
    seed.write_text('{"notebooks": [{"name": "Energy", "script": {"notebook": 0}}]}')

    with EmulatorProcess(tmp_path, "--seed", str(seed), "--smtp", f"localhost:{mail_server.port}") as command:
        command.post(f"/notebooks/{command.ready['notebooks']['Energy']}/execute", {"email": ADDRESS})
        (mail,) = mails(mail_server)

    assert (mail["To"], mail["Subject"]) == (ADDRESS, "Notebook Energy: completed")


# -- exports of input data --------------------------------------------------------------------------------

MIDNIGHT = 1_769_904_000_000  # 2026-02-01T00:00:00Z
INPUTS: list[dict[str, Any]] = [
    {
        "inputType": "deviceData",
        "fileName": "{{site}}.csv",
        "deviceTags": [{"key": "site", "value": "{{site}}"}],
        "start": -3_600_000,
        "end": 0,
    },
    {
        "inputType": "eventData",
        "fileName": "alarms.json",
        "format": "json",
        "queryJson": '{"level": "critical"}',
    },
]
OPTIONS = {"relativeTo": MIDNIGHT, "templateContext": '{"site": "north"}'}


@pytest.fixture
def notebook_id(losant: Emulator, tmp_path: Path) -> str:
    """Return the id of a notebook with inputs and without a file."""
    (tmp_path / "meters.csv").write_text(
        f"Timestamp,site,kwh\n{MIDNIGHT - 1},north,4\n{MIDNIGHT},north,5\n{MIDNIGHT - 1},south,6\n"
    )
    (tmp_path / "alarms.json").write_text('[{"level": "critical"}, {"level": "info"}]')
    samples = {"{{site}}.csv": tmp_path / "meters.csv", "alarms.json": tmp_path / "alarms.json"}
    return losant.add_notebook("Energy", inputs=INPUTS, samples=samples)


def export(client: ApiClient, notebook_id: str, **options: Any) -> str:
    """Request an export; returns the id of the job."""
    response = client.call("POST", f"/notebooks/{notebook_id}/requestInputDataExport", json=options)
    assert response.status_code == 202, response.text
    return str(response.json()["jobId"])


def files_of(client: ApiClient, url: str) -> dict[str, str]:
    """Download an archive; returns the text of its files by name."""
    response = client.session.get(url, timeout=10)
    assert response.headers["Content-Type"] == "application/zip"
    with ZipFile(io.BytesIO(response.content)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_an_export_calls_back_with_the_url_of_an_archive_of_the_inputs_of_that_query_time(
    client: ApiClient, losant: Emulator, notebook_id: str
) -> None:
    with Emulator() as listener:
        export(client, notebook_id, callbackUrl=f"{listener.url}/hook", **OPTIONS)
        wait_until(lambda: listener.requests, 10)

    (callback,) = listener.requests
    assert (callback.method, callback.path, callback.body.keys()) == ("POST", "/hook", {"downloadUrl"})
    files = files_of(client, callback.body["downloadUrl"])
    assert files.keys() == {"context.json", "north.csv", "alarms.json"}
    assert files["north.csv"].splitlines() == ["Timestamp,site,kwh", f"{MIDNIGHT - 1},north,4"]
    assert json.loads(files["alarms.json"]) == [{"level": "critical"}]
    assert client.logs(notebook_id) == []


def test_an_export_sends_the_url_of_the_archive_by_email(
    client: ApiClient, notebook_id: str, mail_server: MailServer
) -> None:
    job = export(client, notebook_id, email=ADDRESS, **OPTIONS)
    (mail,) = mails(mail_server)

    first, second = mail.get_content().splitlines()
    assert (mail["To"], mail["Subject"], first) == (ADDRESS, "Input data of notebook Energy", f"Job: {job}")
    assert "north.csv" in files_of(client, second.removeprefix("Download: "))


def test_the_url_of_an_archive_needs_its_signature(
    client: ApiClient, losant: Emulator, notebook_id: str, mail_server: MailServer
) -> None:
    export(client, notebook_id, email=ADDRESS, **OPTIONS)
    url = mails(mail_server)[0].get_content().split("Download: ")[1].strip()
    path, _, _ = url.partition("?")

    assert client.session.get(path, timeout=10).status_code == 403
    assert client.session.get(url.replace("inputs.zip", "x.zip"), timeout=10).status_code == 403
    token = {"Authorization": f"Bearer {losant.token}"}
    assert client.session.get(url, timeout=10, headers=token).status_code == 403


def test_an_export_without_a_recipient_is_not_made(
    client: ApiClient, losant: Emulator, notebook_id: str, mail_server: MailServer
) -> None:
    losant.switches.export_interval = 0

    export(client, notebook_id, **OPTIONS)
    export(client, notebook_id, email=ADDRESS, **OPTIONS)
    mails(mail_server)

    assert len(list(losant.backend.folder.rglob("*.zip"))) == 1


def test_an_export_without_sample_data_is_logged_and_reports_nothing(
    client: ApiClient, losant: Emulator, mail_server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    notebook_id = losant.add_notebook("Energy", inputs=INPUTS)

    with caplog.at_level(logging.WARNING):
        export(client, notebook_id, email=ADDRESS, **OPTIONS)
        wait_until(lambda: caplog.messages, 10)

    (message,) = caplog.messages
    assert message.startswith("The input data of the notebook 'Energy' could not be exported: ")
    assert "no sample data for the input file north.csv" in message
    assert mail_server.messages == []
    assert list(losant.backend.folder.rglob("exports/*/*")) == []


def test_a_refused_query_time_of_an_export_does_not_count_as_an_export(
    client: ApiClient, losant: Emulator, notebook_id: str
) -> None:
    losant.switches.change(Switches(relative_to_fallback=False).as_json())
    path = f"/notebooks/{notebook_id}/requestInputDataExport"

    refused = client.call("POST", path, json={"relativeTo": "yesterday"})

    assert (refused.status_code, refused.json()["message"]) == (400, "exportOptions.relativeTo is not a time")
    export(client, notebook_id, **OPTIONS)
