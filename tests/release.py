# SPDX-License-Identifier: Apache-2.0
"""
Check that the checkout can be released under a tag: ``python3 -m tests.release v1.2.3``.

Standard library only: used before anything is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from tests.support.paths import ROOT

PLACEHOLDER = "https://example.com/"
"""Where the project's addresses lead until it has some."""


def problems(tag: str, root: Path, today: date) -> Iterator[str]:
    """Yield what has to be mended before the release, a sentence each."""
    settings = (root / "pyproject.toml").read_text()
    package = tomllib.loads(settings)["project"]["name"].replace("-", "_")
    changelog = (root / "docs" / "project" / "changelog.md").read_text()
    found = re.search(r'^__version__ = "(.+)"$', (root / package / "__init__.py").read_text(), re.MULTILINE)
    version = found[1] if found else None
    if tag != f"v{version}":
        yield f"The tag is {tag}, but the package has the version {version}."
    if re.search(r"^## \[Unreleased]\n\s*[^#\s]|^## \[Unreleased]\n\s*###", changelog, re.MULTILINE):
        yield "The changelog has entries under [Unreleased]."
    dated = re.search(rf"^## \[{re.escape(str(version))}] - (\S+)$", changelog, re.MULTILINE)
    if dated is None:
        yield f"The changelog has no heading for {version}."
    elif dated[1] != str(today):
        yield f"The changelog dates the release {dated[1]}, but today is {today}."
    for number, line in enumerate(settings.splitlines(), 1):
        if PLACEHOLDER in line:
            yield f"pyproject.toml, line {number}, has a placeholder for an address: {line}"


def main(arguments: Sequence[str]) -> int:
    """Print the problems, and return 0 only if there are none."""
    about = (__doc__ or "").strip().partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python3 -m tests.release", description=about)
    parser.add_argument("tag", help="the tag of the release, such as v1.2.3")
    found = list(problems(parser.parse_args(arguments).tag, ROOT, datetime.now(UTC).date()))
    print("\n".join(found or ["The release is ready."]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
