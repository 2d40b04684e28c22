# SPDX-License-Identifier: Apache-2.0
"""Example DAGs as users have them, but with shorter intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from example_dags.demo.checks import EXAMPLES


def copy_examples(folder: Path, names: Iterable[str], replaced: Mapping[str, str]) -> None:
    """
    Copy files of examples.

    :param folder: The folder of the copies.
    :param names: Names of the files.
    :param replaced: What else each text becomes wherever a file has it.
    """
    for name in names:
        text = (EXAMPLES / name).read_text()
        for old, new in replaced.items():
            text = text.replace(old, new)
        (folder / name).write_text(text)
