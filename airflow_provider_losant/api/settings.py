# SPDX-License-Identifier: Apache-2.0
"""Settings of a client, validated once from the fields of an Airflow connection."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_losant.api import defaults
from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import losant_id

_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]+")
_MAX_PORT = 65_535


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
        Build settings from a connection's fields.

        :raises InvalidArgument: a field is missing or invalid; the message names it.
        """
        if not (token and token.strip()):
            raise InvalidArgument("password", "is empty; set it to the Losant API token")
        if not re.fullmatch(r"[!-~]+", token.strip()):
            raise InvalidArgument("password", "contains characters that are not valid in a Losant API token")
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


def _base_url(host: str | None, port: int | None, *, allow_http: bool) -> str:
    text = (host or "").strip().rstrip("/") or defaults.URL
    if "@" in text:
        raise InvalidArgument("host", "contains a user name or password; put the API token into password")
    if port is not None and not 0 <= port <= _MAX_PORT:
        raise InvalidArgument("port", f"{port!r} is not a port number")
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        name, port = parts.hostname, port or parts.port
    except ValueError:
        raise InvalidArgument("host", f"{text!r} is not a host name or URL") from None
    extra = parts.path or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not (name and _HOST.fullmatch(name)) or extra:
        raise InvalidArgument("host", f"{text!r} is not a bare host name, nor an http(s) URL without a path")
    if parts.scheme == "http" and not (allow_http or _is_loopback(name)):
        raise InvalidArgument(
            "host", f"{text!r} would send the token unencrypted; use https, or set allow_http in extra"
        )
    netloc = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{netloc}" + (f":{port}" if port else "")


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
    except (TypeError, ValueError):
        number = -1.0
    if not minimum <= number < float("inf"):
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
    if isinstance(choice, str) and not Path(choice).exists():
        raise InvalidArgument("verify", f"{choice!r} is neither true nor false, nor an existing file")
    return choice
