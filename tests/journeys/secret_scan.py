# SPDX-License-Identifier: Apache-2.0
"""Look for secrets in all that an Airflow has kept: its files, and every row of its database."""

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
"""What makes the address of a file at the local Losant a secret."""


Piece = tuple[str, str]
"""The name of a place, and what is kept there."""


def places_of(pattern: str, kept: Iterable[Piece]) -> list[str]:
    """Return where a pattern occurs, with as little of the surroundings as tells what it is."""
    wanted = re.compile(pattern)
    found = []
    for place, text in kept:
        if match := wanted.search(text):
            found.append(f"{place}: …{text[max(0, match.start() - 80) : match.start()]}")
    return found


def kept_by(airflow: LocalAirflow) -> Iterator[Piece]:
    """Yield everything an Airflow keeps, piece by piece, each with the name of its place."""
    for file in sorted(path for path in airflow.home.rglob("*") if path.is_file()):
        yield str(file.relative_to(airflow.home)), file.read_bytes().decode(errors="replace")
    engine = create_engine(airflow.database)
    try:
        yield from _rows(engine, Fernet(airflow.environment["AIRFLOW__CORE__FERNET_KEY"]))
    finally:
        engine.dispose()


def secrets_pattern(tokens: Iterable[str]) -> str:
    """Return what finds any of the tokens, and any signed address."""
    return "|".join([SIGNED, *map(re.escape, tokens)])


def _rows(engine: Engine, fernet: Fernet) -> Iterator[Piece]:
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for name, table in tables.tables.items():
            for row in connection.execute(table.select()).mappings():
                values = dict(row)
                # Of a trigger; what is encrypted of a connection is meant to be a secret.
                if values.get("encrypted_kwargs"):
                    values["encrypted_kwargs"] = fernet.decrypt(values["encrypted_kwargs"])
                yield f"table {name}", str(values)
