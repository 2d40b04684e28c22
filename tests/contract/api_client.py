# SPDX-License-Identifier: Apache-2.0
"""A plain HTTP client for the emulator that knows nothing of the provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

from tests.support.processes import wait_for

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

ACTIVE = ("queued", "inProgress", "canceling")


@dataclass
class ApiClient:
    """Sends requests to the default application of an emulator."""

    losant: Emulator
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False

    def call(self, method: str, path: str, *, token: str | None = "", **options: Any) -> requests.Response:
        """
        Send a request.

        :param path: the path below the default application.
        :param token: the token; empty means the default token, None means no token.
        """
        headers = options.pop("headers", {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.losant.token}"
        url = f"{self.losant.url}/applications/{self.losant.application_id}{path}"
        return self.session.request(method, url, headers=headers, timeout=10, **options)

    def execute(self, notebook_id: str, **options: Any) -> str:
        """Run a notebook; returns the id of the execution."""
        response = self.call("POST", f"/notebooks/{notebook_id}/execute", json=options)
        assert response.status_code == 200, response.text
        return str(response.json()["executionId"])

    def cancel(self, notebook_id: str, execution_id: str) -> requests.Response:
        return self.call(
            "POST", f"/notebooks/{notebook_id}/cancelExecution", params={"executionId": execution_id}
        )

    def logs(self, notebook_id: str, **query: Any) -> list[dict[str, Any]]:
        response = self.call("GET", f"/notebooks/{notebook_id}/logs", params=query)
        assert response.status_code == 200, response.text
        entries: list[dict[str, Any]] = response.json()
        return entries

    def wait(self, notebook_id: str, status: str | None = None, timeout: float = 25) -> dict[str, Any]:
        """Poll until the newest execution has ended, or has the status; returns its log entry."""

        def matching() -> dict[str, Any] | None:
            entry = self.logs(notebook_id)[0]
            is_matching = entry["status"] not in ACTIVE if status is None else entry["status"] == status
            return entry if is_matching else None

        return wait_for(matching, what=status or "the end", timeout=timeout, every=0.02)

    def file(self, entry: dict[str, Any], name: str, kind: str = "outputInfo") -> str:
        """Download a file that a log entry lists."""
        response = self.session.get(entry[kind][name]["url"], timeout=10)
        assert response.status_code == 200, response.text
        return response.text
