# SPDX-License-Identifier: Apache-2.0
"""Sends e-mails to a local SMTP server."""

from __future__ import annotations

import asyncio
import logging
import smtplib
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final, Self

SENDER: Final = "Losant emulator <losant-emulator@localhost>"
TIMEOUT: Final = 5.0
"""Seconds that each step of the conversation with the server may take."""
MAX_PORT: Final = 65_535

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mailer:
    """Sends e-mails through an SMTP server, without a login and without encryption."""

    host: str
    port: int

    @classmethod
    def from_address(cls, address: str) -> Self:
        """
        Create a mailer for ``HOST:PORT``.

        :raises ValueError: if the address has another form.
        """
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) <= MAX_PORT:
            raise ValueError(f"the address of the SMTP server must be HOST:PORT, not {address!r}")
        return cls(host.strip("[]"), int(port))

    async def send(self, recipient: str, subject: str, lines: Sequence[str]) -> None:
        """Send a message; if that fails, log the reason, because an execution does not depend on it."""
        try:
            await asyncio.to_thread(self._send, recipient, subject, lines)
        except Exception as error:  # noqa: BLE001  # an odd address raises many kinds of errors in `email`
            _log.warning("The e-mail %r to %s could not be sent: %s", subject, recipient, error)

    def _send(self, recipient: str, subject: str, lines: Sequence[str]) -> None:
        message = EmailMessage()
        message["From"], message["To"] = SENDER, recipient
        # A header has one line, the name of a notebook may have several.
        message["Subject"] = " ".join(subject.split())
        message.set_content("\n".join([*lines, ""]))
        # Without a name of its own for this machine, smtplib asks the name server for it.
        with smtplib.SMTP(self.host, self.port, local_hostname="localhost", timeout=TIMEOUT) as server:
            server.send_message(message, to_addrs=[recipient])
