# SPDX-License-Identifier: Apache-2.0
"""Ids, access tokens and signatures of file URLs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass, field

_NANO_ALPHABET = string.ascii_letters + string.digits + "_-"
_SAFE_NAME = re.compile(r"(?!\.{1,2}$)[0-9a-zA-Z_.-]{1,255}")
_EXPIRES = re.compile(r"[0-9]{1,12}")

READ_SCOPES = ("all.Application.read", "all.Organization.read", "all.User.read")
"""The scopes that allow every operation that only reads."""
FULL_SCOPES = tuple(
    f"all.{owner}{bound}" for owner in ("Application", "Organization", "User") for bound in ("", ".bounded")
)
"""The scopes that allow every operation."""


def is_safe_name(name: str) -> bool:
    """Return whether Losant accepts a file name; such a name cannot lead out of its folder."""
    return _SAFE_NAME.fullmatch(name) is not None


def object_id(now: float) -> str:
    """Return a new id that begins with the creation time as eight hexadecimal digits, as in MongoDB."""
    return f"{int(now):08x}{secrets.token_hex(8)}"


def job_id() -> str:
    """Return a new 21-character id of a background job."""
    return "".join(secrets.choice(_NANO_ALPHABET) for _ in range(21))


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An application token and its scopes."""

    id: str
    text: str = field(repr=False)
    application_id: str
    scopes: tuple[str, ...]
    expired: bool = False

    def allows(self, scopes: Sequence[str], *, accepts_read_scopes: bool) -> bool:
        """
        Return whether the token may call an operation.

        :param scopes: the scopes for this operation; one of them is enough.
        :param accepts_read_scopes: whether a scope for reading is enough.
        """
        accepted = {*scopes, *FULL_SCOPES, *(READ_SCOPES if accepts_read_scopes else ())}
        return not accepted.isdisjoint(self.scopes)

    def sees(self, application_id: str) -> bool:
        """Return whether the token belongs to an application, or to its whole organization or user."""
        is_wide = any(scope.startswith(("all.Organization", "all.User")) for scope in self.scopes)
        return is_wide or application_id == self.application_id


def token_text(token_id: str, scopes: Sequence[str], now: float, *, expired: bool) -> str:
    """Return the text of a new token; it has the form of a JWT, but its claims are not used."""
    claims: dict[str, object] = {"sub": token_id, "subtype": "apiToken", "iat": int(now), "iss": "emulator"}
    claims["scope"] = list(scopes)
    if expired:
        claims["exp"] = int(now) - 3600
    parts = [json.dumps(part).encode() for part in ({"alg": "EdDSA", "typ": "JWT"}, claims)]
    parts.append(secrets.token_bytes(48))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@dataclass(frozen=True, slots=True)
class Signer:
    """
    Signs the URLs of files and verifies the signatures.

    :param secret: the key.
    """

    secret: bytes

    def sign(self, path: str, expires: int) -> str:
        """
        Return the query string that gives access to a file.

        :param path: the path of the URL.
        :param expires: when the URL expires, in epoch seconds.
        """
        return f"expires={expires}&signature={self._signature(path, expires)}"

    def verify(self, path: str, expires: str, signature: str, now: float) -> bool:
        """Return whether a signature is valid for the path and has not expired."""
        if not _EXPIRES.fullmatch(expires) or int(expires) < now:
            return False
        given = signature.encode(errors="replace")
        return hmac.compare_digest(given, self._signature(path, int(expires)).encode())

    def _signature(self, path: str, expires: int) -> str:
        return hmac.new(self.secret, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
