# SPDX-License-Identifier: Apache-2.0
"""Search for secrets in everything that an Airflow has stored: its files, and every row of its database."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet
from sqlalchemy import MetaData, create_engine

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from tests.support.local_airflow import LocalAirflow

SIGNED = r"signature=[0-9a-f]{32,}"
"""The secret part of the signed URL of a file in the local Losant."""

Piece = tuple[str, str]
"""The name of a file or table, and text that is stored there."""


def places_of(pattern: str, stored: Iterable[Piece]) -> list[str]:
    """Return where a pattern occurs, with the text before it."""
    wanted = re.compile(pattern)
    found = []
    for place, text in stored:
        if match := wanted.search(text):
            found.append(f"{place}: …{text[max(0, match.start() - 80) : match.start()]}")
    return found


def stored_by(airflow: LocalAirflow) -> Iterator[Piece]:
    """Yield everything that an Airflow has stored, piece by piece."""
    for file in sorted(path for path in airflow.home.rglob("*") if path.is_file()):
        yield str(file.relative_to(airflow.home)), file.read_bytes().decode(errors="replace")
    engine = create_engine(airflow.database)
    try:
        yield from _rows(engine, Fernet(airflow.environment["AIRFLOW__CORE__FERNET_KEY"]))
    finally:
        engine.dispose()


def secrets_pattern(tokens: Iterable[str]) -> str:
    """Return a pattern for any of the tokens, and for any signed URL."""
    return "|".join([SIGNED, *map(re.escape, tokens)])


def _rows(engine: Engine, fernet: Fernet) -> Iterator[Piece]:
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for name, table in tables.tables.items():
            for row in connection.execute(table.select()).mappings():
                values = dict(row)
                # Those of a trigger must hold no secret. The encrypted fields of a connection may.
                if values.get("encrypted_kwargs"):
                    values["encrypted_kwargs"] = fernet.decrypt(values["encrypted_kwargs"])
                yield f"table {name}", str(values)
