# SPDX-License-Identifier: Apache-2.0
"""How to reach Losant: what a connection says, checked once and then only carried about."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_losant.api import defaults
from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.model import losant_id

_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]+")
CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables that may name a bundle of certificates; the first one counts."""
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    Everything a client needs to know.

    :param base_url: Scheme and host of the API, no trailing slash.
    :param token: API token; never shown.
    :param application_id: Default application.
    :param app_url: Losant's web interface: a base address, or a whole link with ``{application_id}``,
        ``{notebook_id}`` and ``{execution_id}`` in it.
    :param timeout: Seconds to wait for a connection, for the beginning of an answer, and for all of it.
    :param max_retries: How often a request that may be repeated is repeated.
    :param verify: Check the server's certificate: true, false, or the path of a CA bundle.
    :param user_agent: What we call ourselves.
    """

    token: str = field(repr=False)
    base_url: str = defaults.URL
    application_id: str | None = None
    app_url: str = defaults.APP_URL
    timeout: float = defaults.TIMEOUT
    max_retries: int = defaults.MAX_RETRIES
    verify: bool | str = True
    user_agent: str = "airflow-provider-losant"

    @classmethod
    def from_connection(
        cls,
        *,
        host: str | None,
        port: int | None,
        token: str | None,
        extra: Mapping[str, Any],
        user_agent: str,
    ) -> Settings:
        """
        Make settings of a connection's fields.

        :raises InvalidArgument: a field is missing or makes no sense; the message names it.
        """
        if not (token and token.strip()):
            raise InvalidArgument("password", "is empty; it holds the Losant API token")
        if not re.fullmatch(r"[!-~]+", token.strip()):
            raise InvalidArgument("password", "holds characters that no Losant API token has")
        application_id = extra.get("application_id") or None
        return cls(
            token=token.strip(),
            base_url=_base_url(host, port, allow_http=_flag(extra.get("allow_http", False), "allow_http")),
            application_id=application_id and losant_id(application_id, field="application_id"),
            app_url=str(extra.get("app_url") or defaults.APP_URL).rstrip("/"),
            timeout=_positive(extra.get("timeout"), defaults.TIMEOUT, "timeout"),
            max_retries=_count(extra.get("max_retries"), defaults.MAX_RETRIES, "max_retries"),
            verify=_verify(extra.get("verify", True)),
            user_agent=user_agent,
        )

    @property
    def ca_bundle(self) -> bool | str:
        """
        Return whose certificates to accept: as ``verify`` says, or the environment, where that is just true.

        It is asked here, since each of the libraries that make requests asks for a variable of its own.
        """
        if self.verify is not True:
            return self.verify
        named = (os.environ.get(name) for name in CA_BUNDLES)
        return next((it for it in named if it and Path(it).exists()), True)

    def notebook_url(self, *, application_id: str, notebook_id: str, execution_id: str) -> str:
        """
        Return the address of a notebook in Losant's web interface.

        Losant documents no address of a single execution: they are listed on the notebook's page.
        """
        template = self.app_url
        if "{" not in template:
            template += "/applications/{application_id}/notebooks/{notebook_id}"
        names = {
            "application_id": application_id,
            "notebook_id": notebook_id,
            "execution_id": execution_id,
        }
        for name, value in names.items():
            template = template.replace("{" + name + "}", value)
        return template


def _base_url(host: str | None, port: int | None, *, allow_http: bool) -> str:
    text = (host or "").strip().rstrip("/") or defaults.URL
    if "@" in text:
        raise InvalidArgument("host", "holds a user name or password; the API token goes into password")
    if port is not None and not 0 <= port <= _LAST_PORT:
        raise InvalidArgument("port", f"{port!r} is not a port")
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        name, port = parts.hostname, port or parts.port
    except ValueError:
        raise InvalidArgument("host", f"{text!r} is not a host name or URL") from None
    more = parts.path or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not (name and _HOST.fullmatch(name)) or more:
        raise InvalidArgument("host", f"{text!r} is not a bare host name, nor an http(s) URL without a path")
    if parts.scheme == "http" and not (allow_http or _is_loopback(name)):
        raise InvalidArgument(
            "host", f"{text!r} would send the token unencrypted; use https, or set allow_http in extra"
        )
    shown = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else "")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _positive(value: object, default: float, name: str, *, least: float = 0.001) -> float:
    if value is None or value == "":
        return default
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever JSON or a form put there
    except (TypeError, ValueError):
        number = -1.0
    if not least <= number < float("inf"):
        raise InvalidArgument(name, f"{value!r} is not a positive number")
    return number


def _count(value: object, default: int, name: str) -> int:
    return int(_positive(value, default, name, least=0))


def _flag(value: object, name: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
    known["y"] = True  # what the Test button of Airflow 2 sends for a box that is ticked
    try:
        return known["" if value is None else str(value).strip().lower()]
    except KeyError:
        raise InvalidArgument(name, f"{value!r} is neither true nor false") from None


def _verify(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    text = "" if value is None else str(value).strip()
    choice = {"": True, "true": True, "false": False}.get(text.lower(), text)
    if isinstance(choice, str) and not Path(choice).exists():
        raise InvalidArgument("verify", f"{choice!r} is neither true nor false, nor a file on this machine")
    return choice
