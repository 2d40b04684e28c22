# SPDX-License-Identifier: Apache-2.0
"""The secrets that Airflow masks in the logs of this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def own_masked_secrets() -> Iterator[None]:
    """
    Let Airflow forget, after the block, the secrets that the block added.

    For each new one it compiles an expression of all secrets so far. Every test has a token of its own, so
    that this took most of the time of the later tests.
    """
    before = [(masker, set(masker.patterns), masker.replacer) for masker in _maskers()]
    yield
    for masker, patterns, replacer in before:
        masker.patterns, masker.replacer = patterns, replacer


def _maskers() -> Iterator[Any]:
    """Find Airflow's maskers: some versions have two, and in each version they are in other modules."""
    for name, module in list(sys.modules.items()):
        if name.startswith("airflow.") and name.endswith(".secrets_masker"):
            # Not by getattr, which warns in a module that only forwards to another one.
            find = vars(module).get("_secrets_masker")
            if find is not None:
                yield find()
