# SPDX-License-Identifier: Apache-2.0
"""What the emulator sends on its own: callbacks and e-mails."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Emulator, Script
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
