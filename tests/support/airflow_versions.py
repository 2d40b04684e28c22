# SPDX-License-Identifier: Apache-2.0
"""Which Airflows the tests run on, and which of them a test is for. Standard library only."""

from __future__ import annotations

from tests.support.paths import ROOT


def release(version: str) -> tuple[int, int]:
    """Return what can be compared of a version: major and minor."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


CONSTRAINTS = {
    file.stem.removeprefix("airflow-"): file
    for file in (ROOT / "tests" / "constraints").glob("airflow-*.txt")
}
"""The exact version of every package, for each supported minor version of Airflow."""
MINORS = tuple(sorted(CONSTRAINTS, key=release))
NEWEST = MINORS[-1]


def is_for(version: str, *, since: str | None = None, before: str | None = None) -> bool:
    """
    Tell whether an Airflow has what came with one version, and lacks what came with another.

    :param version: The Airflow, such as ``3.0.6`` or ``3.0``.
    """
    is_old_enough = before is None or release(version) < release(before)
    return is_old_enough and (since is None or release(version) >= release(since))


EXAMPLES_SINCE = {"losant_react_to_notebook": "3.0"}
"""Examples that not every Airflow can load, and from which one on."""


def examples_beyond(version: str) -> set[str]:
    """Return the examples that an Airflow is too old for, and whose first lines say so."""
    return {name for name, since in EXAMPLES_SINCE.items() if not is_for(version, since=since)}
