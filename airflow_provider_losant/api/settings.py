# SPDX-License-Identifier: Apache-2.0
"""Settings of a client, validated once from the fields of an Airflow connection."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_losant.api import defaults
from airflow_provider_losant.api.errors import JSON_ERRORS, InvalidArgument
from airflow_provider_losant.api.fields import losant_id, refuse

_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
_PORTS = {"https": 443, "http": 80}
"""The default port of each scheme."""
_MAX_PORT = 65_535
_DEVIATIONS = set("\u00df\u03c2\u200c\u200d")
"""Letters that Python's codec replaces in a host name, but browsers and requests do not."""
_BEARER = re.compile(r"(authorization\s*:\s*)?bearer(\W|$)", re.IGNORECASE)
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_KEYS = ("application_id", "app_url", "timeout", "max_retries", "allow_http", "verify")
"""The keys of extra that are read."""
_OTHER_NAMES = {
    "appid": "application_id",
    "application": "application_id",
    "retries": "max_retries",
    "cabundle": "verify",
    "sslverify": "verify",
    "tlsverify": "verify",
    "verifyssl": "verify",
    "verifytls": "verify",
}
"""What users call these keys, as other tools do."""
_TOKEN_NAMES = {"accesstoken", "apitoken", "authtoken", "bearertoken", "password", "token"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    The settings of a client.

    :param base_url: Scheme and host of the API, without a trailing slash.
    :param token: API token; omitted from ``repr``.
    :param application_id: Default application.
    :param app_url: Losant's web interface: a base URL, or a URL template with ``{application_id}``,
        ``{notebook_id}`` and ``{execution_id}``.
    :param timeout: Seconds allowed for connecting, for the head of a response, and for its body.
    :param max_retries: How often a failed request is retried, if that is safe.
    :param verify: Whether to verify the server's certificate, or the path of a CA bundle.
    :param user_agent: The ``User-Agent`` header.
    :param unread_keys: Keys of the connection's extra that no setting has.
    """

    token: str = field(repr=False)
    base_url: str = defaults.URL
    application_id: str | None = None
    app_url: str = defaults.APP_URL
    timeout: float = defaults.TIMEOUT
    max_retries: int = defaults.MAX_RETRIES
    verify: bool | str = True
    user_agent: str = "airflow-provider-losant"
    unread_keys: tuple[str, ...] = ()

    @classmethod
    def from_connection(
        cls,
        *,
        host: str | None,
        port: int | str | None,
        token: str | None,
        extra: Mapping[str, Any],
        user_agent: str,
    ) -> Settings:
        """
        Build settings from a connection's fields.

        :raises InvalidArgument: a field is missing or invalid; the message names it.
        """
        unread_keys = _unread_keys(extra)
        application_id = extra.get("application_id") or None
        return cls(
            token=_token(token, extra),
            base_url=_base_url(host, port, allow_http=_flag(extra.get("allow_http", False), "allow_http")),
            application_id=application_id and losant_id(application_id, field="application_id"),
            app_url=_app_url(extra.get("app_url")),
            timeout=min(_positive(extra.get("timeout"), defaults.TIMEOUT, "timeout"), defaults.LONGEST),
            max_retries=_count(extra.get("max_retries"), defaults.MAX_RETRIES, "max_retries"),
            verify=_verify(extra.get("verify", True)),
            user_agent=user_agent,
            unread_keys=unread_keys,
        )

    def notebook_url(self, *, application_id: str, notebook_id: str, execution_id: str) -> str:
        """
        Return the URL of a notebook in Losant's web interface.

        Losant documents no URL of a single execution; the notebook's page lists them.
        """
        template = self.app_url
        if "{" not in template:
            template += "/applications/{application_id}/notebooks/{notebook_id}"
        ids = {
            "application_id": application_id,
            "notebook_id": notebook_id,
            "execution_id": execution_id,
        }
        for name, value in ids.items():
            template = template.replace("{" + name + "}", value)
        return template


def api_address(host: str | None, port: int | str | None = None) -> SplitResult:
    """
    Return scheme and host of the API in the one form that requests, asset URIs and lineage use.

    The host name is in lower case and in ASCII, without a dot at its end, and a default port is left out. An
    IPv6 address is in brackets, which Airflow removes from the host of a connection's URI.

    :param host: A host name or a URL; by default Losant's.
    :param port: The connection's port, which has precedence; a secrets backend may have it as text.
    :raises InvalidArgument: it is not a host; the message contains no password.
    """
    text = (host or "").strip() or defaults.URL
    if "@" in text:
        raise InvalidArgument("host", "contains a user name or password; put the API token into password")
    port = _port(port)
    scheme, _, rest = text.rpartition("://")
    rest = rest.rstrip("/")
    try:
        parts = _split(f"{scheme or 'https'}://{f'[{rest}]' if _is_ipv6(rest) else rest}")
        netloc = _netloc(parts, port)
        is_bare = not (parts.path or parts.query or parts.fragment)
    except ValueError:
        is_bare = False
    if not is_bare:
        raise InvalidArgument("host", f"{text!r} is neither a host name nor an http(s) URL without a path")
    return SplitResult(parts.scheme, netloc, "", "", "")


def _port(value: int | str | None) -> int | None:
    if value is None or value == "":
        return None
    try:
        port = int(value)
    except (TypeError, ValueError):
        port = -1
    if not 0 <= port <= _MAX_PORT:
        refuse(value, "port", "is not a port number")
    return port


def parse_extra(text: str | None) -> Mapping[str, Any]:
    """
    Parse the extra of a connection, which Airflow does not check everywhere.

    :raises InvalidArgument: it is not a JSON object; the message contains nothing of it.
    """
    if not (text and text.strip()):
        return {}
    try:
        extra = json.loads(text)
    except JSON_ERRORS:
        raise InvalidArgument("extra", "is not valid JSON") from None
    if isinstance(extra, str):
        raise InvalidArgument("extra", "is a JSON text, not a JSON object; it may have been encoded twice")
    if not isinstance(extra, dict | None):
        raise InvalidArgument("extra", 'is JSON, but not an object such as {"timeout": 10}')
    return extra or {}


def _token(text: str | None, extra: Mapping[str, Any]) -> str:
    token = (text or "").strip()
    if not token:
        misplaced = [
            f"; its key {key!r} in extra is not read" for key in extra if _plain(key) in _TOKEN_NAMES
        ]
        raise InvalidArgument("password", "is empty; set it to the Losant API token" + "".join(misplaced[:1]))
    if _BEARER.match(token.lstrip(_QUOTES)):
        raise InvalidArgument("password", "begins with 'Bearer'; enter the API token without Bearer")
    if token[0] in _QUOTES or token[-1] in _QUOTES:
        raise InvalidArgument("password", "is in quotation marks; enter the API token without them")
    if re.search(r"\s", token):
        raise InvalidArgument("password", "contains a blank or a line end, which no Losant API token does")
    if not re.fullmatch(r"[!-~]+", token):
        raise InvalidArgument("password", "contains characters that are not valid in a Losant API token")
    return token


def _unread_keys(extra: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Return the keys of extra that are not read.

    :raises InvalidArgument: one is another spelling of a key that is not set.
    """
    unread = tuple(key for key in extra if key not in _KEYS)
    for key in unread:
        meant = _meant_key(key)
        if meant is not None and extra.get(meant) in (None, ""):
            raise InvalidArgument("extra", f"has the key {key!r}, which is not read; rename it to {meant!r}")
    return unread


def _meant_key(key: str) -> str | None:
    from difflib import get_close_matches

    plain = _plain(key)
    names = {_plain(it): it for it in _KEYS} | _OTHER_NAMES
    close = get_close_matches(plain, names, n=1, cutoff=0.85)
    return names[close[0]] if close else None


def _plain(key: str) -> str:
    """Return a key without its case and separators, and without the prefix that Airflow 2.2 gave it."""
    return re.sub(r"[\W_]", "", key.removeprefix("extra__losant__")).lower()


def _base_url(host: str | None, port: int | str | None, *, allow_http: bool) -> str:
    address = api_address(host, port)
    if address.scheme == "http" and not (allow_http or _is_loopback(address.hostname or "")):
        raise InvalidArgument(
            "host", f"{host!r} would send the token unencrypted; use https, or set allow_http in extra"
        )
    return address.geturl()


def _app_url(value: object) -> str:
    text = str(value or "").strip() or defaults.APP_URL
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise InvalidArgument("app_url", "contains a user name or password, which every link would show")
    try:
        _netloc(_split(re.sub(r"[{}]", "", text)))  # the host may contain a placeholder
    except ValueError:
        raise InvalidArgument(
            "app_url", f"{text!r} is not an address that begins with https:// or http://"
        ) from None
    return text.rstrip("/")


def _split(url: str) -> SplitResult:
    """Split an http(s) URL; ``urlsplit`` alone would remove tabs and line ends."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or re.search(r"\s", url):
        raise ValueError
    return parts


def _netloc(parts: SplitResult, port: int | None = None) -> str:
    """Return the canonical host and port of a URL; raises a ValueError if they are not valid."""
    name, port = parts.hostname or "", port or parts.port
    if _is_ipv6(name):
        name = f"[{ipaddress.IPv6Address(name).compressed}]"
    else:
        name = name.removesuffix(".")
        if name in _PORTS or not _NAME.fullmatch(name):  # "https" is what is left of "https://https://..."
            raise ValueError
        if _DEVIATIONS & set(name):
            raise ValueError
        name = name.encode("idna").decode()
    return f"{name}:{port}" if port and port != _PORTS[parts.scheme] else name


def _is_ipv6(text: str) -> bool:
    with suppress(ValueError):
        return ipaddress.IPv6Address(text).scope_id is None
    return False


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _positive(value: object, default: float, name: str, *, minimum: float = 0.001) -> float:
    if value is None or value == "":
        return default
    try:
        number = float(value)  # type: ignore[arg-type]  # any value of JSON or of a form
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if isinstance(value, bool) or not minimum <= number < float("inf"):
        raise InvalidArgument(name, f"{value!r} is not a positive number")
    return number


def _count(value: object, default: int, name: str) -> int:
    return int(_positive(value, default, name, minimum=0))


def _flag(value: object, name: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
    known["y"] = True  # the Test button of Airflow 2 sends this for a ticked check box
    try:
        return known["" if value is None else str(value).strip().lower()]
    except KeyError:
        raise InvalidArgument(name, f"{value!r} is neither true nor false") from None


def _verify(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    text = "" if value is None else str(value).strip()
    choice = {"": True, "true": True, "false": False}.get(text.lower(), text)
    if isinstance(choice, bool):
        return choice
    if "-----BEGIN" in choice:
        raise InvalidArgument("verify", "is the content of a file; enter the path of the CA bundle")
    try:
        is_path = Path(choice).exists()
    except OSError:  # its name is too long
        is_path = False
    if not is_path:
        refuse(choice, "verify", "is neither true nor false, nor an existing file")
    return choice
