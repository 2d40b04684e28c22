# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium that reaches only this machine, and screenshots for the documentation."""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

from PIL import Image
from playwright.sync_api import BrowserContext, Locator, Page, Route, ViewportSize, expect, sync_playwright

VIEWPORT = ViewportSize(width=1360, height=800)
TIMEOUT_MS = 30_000
"""Milliseconds until a page shows something; two small cores run both Airflow and the browser."""
OTHER_HOSTS = re.compile(r"^(?!https?://127\.0\.0\.1[:/]|data:|blob:)")
OFFLINE = (
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOG_SETTINGS = "localStorage.setItem('log_show_timestamp', 'false'); localStorage.setItem('log_wrap', 'true')"
"""The same as Airflow's own switches: wrap the lines of a log, and hide their times."""


def chromium() -> str | None:
    """Return the path of Chromium; None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """
    Run Chromium while a ``with`` block lasts; the pages of a site share a cache.

    :param program: The path of Chromium.
    :ivar refused: URLs of other hosts that pages requested.
    """

    def __init__(self, program: str) -> None:
        self.refused: list[str] = []
        self._program = program
        self._contexts: dict[str, BrowserContext] = {}

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        playwright = self._stack.enter_context(sync_playwright())
        # Chromium has no sandbox for root, and all pages come from this machine.
        self._chromium = playwright.chromium.launch(
            executable_path=self._program, args=OFFLINE, chromium_sandbox=False
        )
        self._stack.callback(self._chromium.close)
        expect.set_options(timeout=TIMEOUT_MS)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, url: str) -> Page:
        """
        Open an empty page.

        :param url: The base of its relative URLs.
        """
        if url not in self._contexts:
            self._contexts[url] = self._new_context(url)
        return self._contexts[url].new_page()

    def _new_context(self, url: str) -> BrowserContext:
        context = self._chromium.new_context(
            base_url=url,
            viewport=VIEWPORT,
            color_scheme="light",
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
        )
        context.set_default_timeout(TIMEOUT_MS)
        context.add_init_script(LOG_SETTINGS)
        context.route(OTHER_HOSTS, self._refuse)
        return context

    def _refuse(self, route: Route) -> None:
        self.refused.append(route.request.url)
        route.abort()


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """
    Takes the screenshots of the documentation.

    :param folder: The folder for the files.
    """

    folder: Path

    def __call__(self, name: str, shown: Page | Locator, *, height: int | None = None) -> None:
        """
        Save a screenshot of a page, or of a part of it.

        :param height: Pixels to keep, from the top.
        """
        taken = Image.open(BytesIO(shown.screenshot(animations="disabled", caret="hide")))
        kept = taken.crop((0, 0, taken.width, height or taken.height)).convert("RGB")
        self.folder.mkdir(parents=True, exist_ok=True)
        # Pages have few colours, so a palette is enough.
        kept.quantize(dither=Image.Dither.NONE).save(self.folder / f"{name}.png", optimize=True)
