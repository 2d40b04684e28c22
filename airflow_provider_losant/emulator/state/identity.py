# SPDX-License-Identifier: Apache-2.0
"""Names that Losant gives: object ids, job ids, access tokens, signatures of file addresses."""

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

READS = ("all.Application.read", "all.Organization.read", "all.User.read")
WRITES = tuple(
    f"all.{owner}{bound}" for owner in ("Application", "Organization", "User") for bound in ("", ".bounded")
)


def is_safe_name(name: str) -> bool:
    """Say whether Losant accepts a file name, which then leads to no other folder."""
    return _SAFE_NAME.fullmatch(name) is not None


def object_id(now: float) -> str:
    """Make an id whose first eight digits are the second of its creation, as in MongoDB."""
    return f"{int(now):08x}{secrets.token_hex(8)}"


def job_id() -> str:
    """Make the 21-character id of a background job."""
    return "".join(secrets.choice(_NANO_ALPHABET) for _ in range(21))


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An application token and what it may do."""

    id: str
    text: str = field(repr=False)
    application_id: str
    scopes: tuple[str, ...]
    expired: bool = False

    def allows(self, specific: Sequence[str], *, reads: bool) -> bool:
        """Say whether one of the scopes covers an operation."""
        accepted = {*specific, *WRITES, *(READS if reads else ())}
        return not accepted.isdisjoint(self.scopes)

    def sees(self, application_id: str) -> bool:
        """Say whether the application exists for the bearer of this token."""
        wide = any(scope.startswith(("all.Organization", "all.User")) for scope in self.scopes)
        return wide or application_id == self.application_id


def token_text(token_id: str, scopes: Sequence[str], now: float, *, expired: bool) -> str:
    """Write a token in the three dotted parts of a JWT; only the table of tokens gives it meaning."""
    claims: dict[str, object] = {"sub": token_id, "subtype": "apiToken", "iat": int(now), "iss": "emulator"}
    claims["scope"] = list(scopes)
    if expired:
        claims["exp"] = int(now) - 3600
    parts = [json.dumps(part).encode() for part in ({"alg": "EdDSA", "typ": "JWT"}, claims)]
    parts.append(secrets.token_bytes(48))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs the addresses of files, and verifies them."""

    secret: bytes

    def sign(self, path: str, expires: int) -> str:
        """Return the query string that gives access to a file until it expires."""
        return f"expires={expires}&signature={self._signature(path, expires)}"

    def verify(self, path: str, expires: str, signature: str, now: float) -> bool:
        """Return whether a query string gives access to a file now."""
        if not _EXPIRES.fullmatch(expires) or int(expires) < now:
            return False
        given = signature.encode(errors="replace")
        return hmac.compare_digest(given, self._signature(path, int(expires)).encode())

    def _signature(self, path: str, expires: int) -> str:
        return hmac.new(self.secret, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
