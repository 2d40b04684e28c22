# SPDX-License-Identifier: Apache-2.0
"""The Airflow versions that the tests run on, and to which of them a test applies. Standard library only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def release(version: str) -> tuple[int, int]:
    """Return major and minor version, for comparisons."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _is_final(constraints: Path) -> bool:
    """Return whether the constraints are those of a final release of Airflow, and not of a beta."""
    (pinned,) = re.findall(r"^apache-airflow==(.+)$", constraints.read_text(), re.MULTILINE)
    return re.fullmatch(r"[\d.]+", pinned) is not None


CONSTRAINTS = {
    file.stem.removeprefix("airflow-"): file
    for file in (ROOT / "tests" / "constraints").glob("airflow-*.txt")
}
"""The exact version of every package, for each supported minor version of Airflow."""
MINORS = tuple(sorted(CONSTRAINTS, key=release))
NEWEST = next(minor for minor in reversed(MINORS) if _is_final(CONSTRAINTS[minor]))
"""The newest final release: everything runs on it that does not name another Airflow."""
LOWEST = {
    minor: ROOT / "tests" / "constraints" / "lowest" / f"airflow-{minor}.txt" for minor in (MINORS[0], NEWEST)
}
"""The lowest version that each requirement may have, with the oldest and the newest Airflow."""


def is_for(version: str, *, since: str | None = None, before: str | None = None) -> bool:
    """
    Return whether an Airflow is at least one version, and older than another.

    :param version: The Airflow, such as ``3.0.6`` or ``3.0``.
    """
    is_old_enough = before is None or release(version) < release(before)
    return is_old_enough and (since is None or release(version) >= release(since))


EXAMPLES_SINCE = {
    "losant_approve_run": "3.1",
    "losant_react_to_notebook": "3.0",
    "losant_react_to_busy_notebook": "3.0",
    "losant_report_partitions": "3.3",
}
"""Examples that only newer versions of Airflow can load, with the first of them."""


def examples_beyond(version: str) -> set[str]:
    """Return the examples that an Airflow is too old for."""
    return {name for name, since in EXAMPLES_SINCE.items() if not is_for(version, since=since)}
