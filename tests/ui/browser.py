# SPDX-License-Identifier: Apache-2.0
"""Chromium without a window, which sees this machine and nothing else, and a camera for what it shows."""

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
PATIENCE_MS = 30_000
"""How long a page may take to show something; two small cores serve Airflow and draw its pages."""
OUTSIDE = re.compile(r"^(?!https?://127\.0\.0\.1[:/]|data:|blob:)")
OFFLINE = (
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
READABLE = "localStorage.setItem('log_show_timestamp', 'false'); localStorage.setItem('log_wrap', 'true')"
"""What Airflow's own switches do: a log wraps its lines, and leaves out their times."""


def chromium() -> str | None:
    """Return the browser's program; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """
    Run Chromium while a ``with`` block lasts; it keeps a site's cache from page to page.

    :param program: Chromium.
    :ivar refused: Addresses that pages asked for beyond this machine.
    """

    def __init__(self, program: str) -> None:
        self.refused: list[str] = []
        self._program = program
        self._contexts: dict[str, BrowserContext] = {}

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        playwright = self._stack.enter_context(sync_playwright())
        # Chromium has no sandbox for root, and the pages are this machine's own.
        self._chromium = playwright.chromium.launch(
            executable_path=self._program, args=OFFLINE, chromium_sandbox=False
        )
        self._stack.callback(self._chromium.close)
        expect.set_options(timeout=PATIENCE_MS)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, url: str) -> Page:
        """
        Open an empty page.

        :param url: The site to which its relative addresses belong.
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
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(READABLE)
        context.route(OUTSIDE, self._refuse)
        return context

    def _refuse(self, route: Route) -> None:
        self.refused.append(route.request.url)
        route.abort()


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """
    Takes the pictures that the documentation shows.

    :param folder: Where they go.
    """

    folder: Path

    def __call__(self, name: str, scene: Page | Locator, *, height: int | None = None) -> None:
        """
        Take a picture of a page as the window shows it, or of a part of it.

        :param height: How much of the page to keep, from its top.
        """
        taken = Image.open(BytesIO(scene.screenshot(animations="disabled", caret="hide")))
        kept = taken.crop((0, 0, taken.width, height or taken.height)).convert("RGB")
        self.folder.mkdir(parents=True, exist_ok=True)
        # A page has few colours; as many as a palette holds are enough.
        kept.quantize(dither=Image.Dither.NONE).save(self.folder / f"{name}.png", optimize=True)
