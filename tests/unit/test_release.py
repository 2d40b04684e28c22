# SPDX-License-Identifier: Apache-2.0
"""A release is refused with the reasons, unless version, changelog and addresses are those of the tag."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests import release

TODAY = date(2026, 12, 31)
FILES = {
    "pyproject.toml": '[project]\nname = "some-provider"\n[project.urls]\nSource = "https://github.com/us/it"\n',
    "some_provider/__init__.py": '"""It."""\n\n__version__ = "1.2.3"\n',
    "docs/project/changelog.md": "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-12-31\n\n- It.\n",
}


def problems(tmp_path: Path, tag: str, file: str = "", old: str = "", new: str = "") -> list[str]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text.replace(old, new) if name == file else text)
    return list(release.problems(tag, tmp_path, TODAY))


def test_a_release_whose_parts_agree_is_ready(tmp_path: Path) -> None:
    assert problems(tmp_path, "v1.2.3") == []


@pytest.mark.parametrize("tag", ["v1.2.4", "1.2.3", "v1.2"])
def test_a_tag_of_another_version_is_refused(tmp_path: Path, tag: str) -> None:
    assert problems(tmp_path, tag) == [f"The tag is {tag}, but the package has the version 1.2.3."]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "docs/project/changelog.md",
            "[Unreleased]\n",
            "[Unreleased]\n\n### Added\n\n- More.\n",
            "The changelog has entries under [Unreleased].",
        ),
        (
            "docs/project/changelog.md",
            "[Unreleased]\n",
            "[Unreleased]\n\n- More.\n",
            "The changelog has entries under [Unreleased].",
        ),
        (
            "docs/project/changelog.md",
            "[1.2.3]",
            "[1.2.2]",
            "The changelog has no heading for 1.2.3.",
        ),
        (
            "docs/project/changelog.md",
            "2026-12-31",
            "2026-12-01",
            "The changelog dates the release 2026-12-01, but today is 2026-12-31.",
        ),
        (
            "pyproject.toml",
            "https://github.com/us/it",
            "https://example.com/it",
            'pyproject.toml, line 4, has a placeholder for an address: Source = "https://example.com/it"',
        ),
    ],
)
def test_what_is_not_ready_is_named(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    assert problems(tmp_path, "v1.2.3", file, old, new) == [said]


def test_the_command_says_that_the_addresses_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main(["v0.0.0"]) == 1

    assert "The tag is v0.0.0" in capsys.readouterr().out
