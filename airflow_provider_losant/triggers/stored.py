# SPDX-License-Identifier: Apache-2.0
"""Read trigger arguments that another version of this package has stored in Airflow's database."""

from __future__ import annotations

import logging
from collections.abc import Collection

_log = logging.getLogger(__name__)


def check_unknown(trigger: object, unknown: Collection[str], *, stored: bool) -> None:
    """
    Ignore unknown arguments that are stored, and refuse those that are written in a DAG.

    During an upgrade, a newer DAG processor or worker may store what this triggerer does not know yet.

    :param unknown: Names of arguments.
    :param stored: Whether the arguments are those that :meth:`serialize` of any version has returned.
    :raises TypeError: an argument that is not stored is unknown.
    """
    if not unknown:
        return
    name, arguments = type(trigger).__name__, ", ".join(sorted(unknown))
    if not stored:
        raise TypeError(f"{name} has no argument {arguments}")
    _log.info("%s ignores the arguments of a newer version: %s", name, arguments)
