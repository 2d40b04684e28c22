# SPDX-License-Identifier: Apache-2.0
"""
One TCP connection, with or without TLS.

TLS is driven by hand with ``ssl.MemoryBIO``, because some faults need what no TLS socket offers: to act in
the middle of a handshake, to send a fatal alert, and to close without the alert that announces it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Final, Self, TypeVar

Result = TypeVar("Result")

_CHUNK: Final = 65_536
_RECORD_HEADER: Final = 5
_CORRUPT_RECORD: Final = b"\x17\x03\x03\x00\x20" + bytes(32)
"""A TLS record that cannot be decrypted, to which OpenSSL responds with the fatal alert bad_record_mac."""
_MAX_LINGER: Final = 1.0
"""Seconds for which a closing connection still reads, so that the peer receives what was sent last."""


class ConnectionEnded(ConnectionError):
    """The peer closed the connection in the middle of a message."""


class Connection:
    """
    A connection that belongs to the running event loop.

    :param connected: The socket; it is closed by this object.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._sending = asyncio.Lock()
        self._is_closed = False
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    @classmethod
    async def open(cls, address: tuple[str, int]) -> Self:
        """Connect to an IP address and port."""
        connecting = socket.socket()
        try:
            connecting.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connecting, address)
        except BaseException:
            connecting.close()
            raise
        return cls(connecting)

    # -- TLS ----------------------------------------------------------------------------------------------

    async def read_client_hello(self) -> bytes:
        """Read the first TLS record, the ClientHello; it is not processed."""
        header = await self.read_exactly(_RECORD_HEADER)
        return header + await self.read_exactly(int.from_bytes(header[-2:], "big"))

    async def start_tls(
        self, context: ssl.SSLContext, client_hello: bytes = b"", *, drip: float | None = None
    ) -> None:
        """
        Do the handshake of a server.

        :param client_hello: The first record, if it was read already.
        :param drip: Send our part of the handshake byte by byte, with so many seconds between two bytes.
        """
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(client_hello)
        await self._drive(self._tls.do_handshake, drip)

    async def send_alert(self) -> None:
        """Send a fatal TLS alert; without TLS, send nothing."""
        if self._tls is None:
            return
        # Python cannot send an alert itself, but OpenSSL sends one when it receives what cannot be right.
        self._incoming.write(_CORRUPT_RECORD)
        with contextlib.suppress(ssl.SSLError):
            while self._tls.read(_CHUNK):
                pass
        await self._flush()

    async def _drive(self, step: Callable[[], Result], drip: float | None = None) -> Result:
        """Do a step of TLS, and send and receive what it needs."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush(drip)
                encrypted = await self._loop.sock_recv(self._socket, _CHUNK)
                if encrypted:
                    self._incoming.write(encrypted)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                # It has left an alert for the peer, such as that the handshake failed.
                await self._flush()
                raise
            else:
                await self._flush(drip)
                return result

    async def _flush(self, drip: float | None = None) -> None:
        # The lock keeps the records of two senders in order: a tunnel sends and receives at the same time.
        async with self._sending:
            encrypted = self._outgoing.read()
            if drip is None:
                await self._loop.sock_sendall(self._socket, encrypted)
                return
            for byte in encrypted:
                await self._loop.sock_sendall(self._socket, bytes([byte]))
                await asyncio.sleep(drip)

    # -- reading and writing ------------------------------------------------------------------------------

    async def read(self, limit: int = _CHUNK) -> bytes:
        """Return what has been received, from one byte to the limit; nothing at the end of the connection."""
        if not self._received:
            self._received += await self._receive()
        return self._take(limit)

    async def read_exactly(self, size: int) -> bytes:
        """
        Return this number of bytes.

        :raises ConnectionEnded: if the connection ends before.
        """
        while len(self._received) < size:
            await self._receive_more()
        return self._take(size)

    async def read_line(self) -> bytes:
        """
        Return a line with its end.

        :raises ConnectionEnded: if the connection ends before.
        """
        line = await self.read_until(b"\r\n")
        if not line:
            raise ConnectionEnded("the connection ended where a line should be")
        return line

    async def read_until(self, end: bytes) -> bytes:
        """
        Return everything up to and with these bytes; nothing if the connection ends before the first byte.

        :raises ConnectionEnded: if the connection ends later.
        """
        while (at := self._received.find(end)) < 0:
            if not self._received:
                self._received += await self._receive()
                if not self._received:
                    return b""
            else:
                await self._receive_more()
        return self._take(at + len(end))

    async def write(self, data: bytes) -> None:
        tls = self._tls
        if tls is None:
            async with self._sending:
                await self._loop.sock_sendall(self._socket, data)
        elif data:
            await self._drive(lambda: tls.write(data))

    async def _receive(self) -> bytes:
        tls = self._tls
        if tls is None:
            return await self._loop.sock_recv(self._socket, _CHUNK)
        try:
            return await self._drive(lambda: tls.read(_CHUNK))
        except ssl.SSLEOFError:
            return b""  # many clients close without announcing it

    async def _receive_more(self) -> None:
        received = await self._receive()
        if not received:
            raise ConnectionEnded("the connection ended in the middle of a message")
        self._received += received

    def _take(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    @property
    def is_idle(self) -> bool:
        """Whether the peer has neither sent anything nor closed the connection since the last message."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._received
        except OSError:
            return False
        return False

    # -- ends ---------------------------------------------------------------------------------------------

    async def announce_end(self) -> None:
        """Send ``close_notify``, with which TLS marks a correct end; without TLS, send nothing."""
        if self._tls is not None and not self._is_closed:
            with contextlib.suppress(ssl.SSLError):  # wants the peer's own, for which nothing here waits
                self._tls.unwrap()
            await self._flush()

    async def end(self) -> None:
        """End our direction of the connection; the peer may continue to send."""
        await self.announce_end()
        self._socket.shutdown(socket.SHUT_WR)

    async def close_after_reading(self) -> None:
        """
        Send the end of the connection, read what still comes in, and close.

        A socket that is closed before everything was read sends a reset, after which the peer may lose what
        it has not read yet.
        """
        with contextlib.suppress(OSError):  # among others the TimeoutError
            self._socket.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_MAX_LINGER):
                while await self._loop.sock_recv(self._socket, _CHUNK):
                    pass
        self.close()

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        # With SO_LINGER at zero seconds the kernel sends RST instead of FIN.
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self._is_closed = True
        self._socket.close()


class Upstream:
    """The connection on which a client's requests are forwarded; it is used again while that is possible."""

    def __init__(self) -> None:
        self._address: tuple[str, int] | None = None
        self._connection: Connection | None = None

    async def connect(self, address: tuple[str, int]) -> Connection:
        """
        Return a connection to this address on which nothing is under way.

        :raises ConnectionRefusedError: if no server listens there.
        """
        if self._connection is None or self._address != address or not self._connection.is_idle:
            self.close()
            self._address, self._connection = address, await Connection.open(address)
        return self._connection

    def reset(self) -> None:
        if self._connection is not None:
            self._connection.reset()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
