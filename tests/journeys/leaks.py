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

    from example_dags.demo.airflow import LocalAirflow

SIGNED = r"signature=[0-9a-f]{32,}"
"""What makes the address of a file at the local Losant a secret."""


def places_of(airflow: LocalAirflow, *patterns: str) -> list[str]:
    """Return where one of the patterns occurs, with as little of the surroundings as tells what it is."""
    wanted = re.compile("|".join(patterns))
    found = []
    for place, text in kept_by(airflow):
        if match := wanted.search(text):
            found.append(f"{place}: …{text[max(0, match.start() - 80) : match.start()]}")
    return found


def kept_by(airflow: LocalAirflow) -> Iterator[tuple[str, str]]:
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


def _rows(engine: Engine, fernet: Fernet) -> Iterator[tuple[str, str]]:
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for name, table in tables.tables.items():
            for row in connection.execute(table.select()).mappings():
                values = dict(row)
                if values.get(
                    "encrypted_kwargs"
                ):  # of a trigger; a connection's own secrets are meant to be there
                    values["encrypted_kwargs"] = fernet.decrypt(values["encrypted_kwargs"])
                yield f"table {name}", str(values)
