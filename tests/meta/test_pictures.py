# SPDX-License-Identifier: Apache-2.0
"""The pictures in the documentation are exactly those that the tests in ``tests/ui`` take."""

from __future__ import annotations

import re

from tests.support.paths import ROOT
from tests.support.source_files import own_files

LARGEST = 150_000
"""Bytes of a picture, which every reader of its page downloads."""
PICTURES = {file.stem: file for file in (ROOT / "docs" / "images").glob("*.png")}


def test_every_picture_is_taken_by_a_ui_test_and_every_taken_one_exists() -> None:
    stories = "".join(file.read_text() for file in (ROOT / "tests" / "ui").glob("test_*.py"))

    assert set(PICTURES) == set(re.findall(r'camera\("([\w-]+)"', stories))


def test_every_picture_has_a_text_alternative() -> None:
    pages = "".join(file.read_text() for file in [ROOT / "README.md", *own_files(".md")])
    shown = re.findall(r"!\[[^\]]+\]\([^)]*images/([\w-]+)\.png\)", pages)

    assert set(shown) == set(PICTURES)


def test_no_picture_is_large() -> None:
    sizes = {name: file.stat().st_size for name, file in PICTURES.items()}

    assert {name: size for name, size in sizes.items() if size > LARGEST} == {}
