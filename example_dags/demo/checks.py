# SPDX-License-Identifier: Apache-2.0
"""Checks of the results of the example DAGs. Each returns a list of problems."""

from __future__ import annotations

import csv
import html
import re
import statistics
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EXAMPLES = Path(__file__).resolve().parents[1]
SEED = EXAMPLES / "losant.json"
REPORT_DAG, REPORT_TASK = "losant_site_energy_report", "report"
REPORT_NOTEBOOK = "67a2f1b4e5b1a2000d6f4c21"
DEPLOY_DAG = "losant_deploy_and_land"
EXPORT_DAG = "losant_export_to_s3"
APPROVE_DAG = "losant_approve_run"
FILES = ("result.html", "energy-per-hour.csv")
VALUES_DAG = "losant_hand_over_values"
VALUES_NOTEBOOKS = {"limit": "67c4b81fe5b1a2000d6f7a42", "weak_batteries": "67c4b9a3e5b1a2000d6f7a58"}
VISITS_NOTEBOOK = "67c4bb27e5b1a2000d6f7a6d"
DEVIATIONS = 3
METERS = "energy-meters.csv"

# The sample data begin on 2 March 2026 and last four days.
QUERY_TIME = datetime(2026, 3, 5, tzinfo=UTC)
DATA_INTERVAL = (QUERY_TIME - timedelta(days=1), QUERY_TIME)


def expected_energy() -> dict[str, Decimal]:
    """Return the kWh of each site in the demo's 24 hours, computed without pandas and without Losant."""
    first, last = (int(at.timestamp() * 1000) for at in DATA_INTERVAL)
    energy: dict[str, Decimal] = {}
    with (EXAMPLES / "data" / METERS).open(newline="") as readings:
        for row in csv.DictReader(readings):
            if first <= int(row["Timestamp"]) < last:
                site = row["site"]
                energy[site] = energy.get(site, Decimal(0)) + Decimal(row["energyKwh"])
    return energy


def expected_values(deviations: float = DEVIATIONS) -> dict[str, dict[str, Any]]:
    """
    Return the values that the tasks of the chain hand on, computed without pandas and without Losant.

    :param deviations: The DAG's parameter.
    """
    first, last = (int(at.timestamp() * 1000) for at in (QUERY_TIME - timedelta(days=3), QUERY_TIME))
    readings: dict[str, list[float]] = {}
    with (EXAMPLES / "data" / "fleet-batteries.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["fleet"] == "north" and first <= int(row["Timestamp"]) < last:
                readings.setdefault(row["Device Name"], []).append(float(row["batteryVolts"]))
    volts = {name: statistics.fmean(found) for name, found in readings.items()}
    limit = round(statistics.fmean(volts.values()) - deviations * statistics.stdev(volts.values()), 3)
    weak = sorted(name for name, mean in volts.items() if mean < limit)
    return {
        "limit": {"limit": limit, "trackers": len(volts)},
        "weak_batteries": {"limit": limit, "weak": weak},
    }


def values_problems(
    found: Mapping[str, Any], states: Mapping[str, str | None], deviations: float = DEVIATIONS
) -> list[str]:
    """
    Check the chain of notebooks.

    :param found: The values of each task, by its id.
    :param states: The state of each task, by its id.
    :param deviations: The DAG's parameter.
    """
    wanted = expected_values(deviations)
    last = "success" if wanted["weak_batteries"]["weak"] else "skipped"
    problems = [] if found == wanted else [f"values: {dict(found)}, not {wanted}"]
    if states["visits"] != last:
        problems.append(f"the last notebook of the chain: {states['visits']}, not {last}")
    return problems


def report_problems(site: str, report: str, energy_per_hour: str) -> list[str]:
    """
    Check the two files that the notebook has written for a site.

    :param report: Text of ``result.html``.
    :param energy_per_hour: Text of ``energy-per-hour.csv``.
    """
    expected = expected_energy()[site]
    text = html.unescape(re.sub(r"<[^>]*>", "", report))
    problems = [
        f"{site}: result.html does not say {wanted!r}"
        for wanted in (f"Site: {site}", f"Energy: {expected:.3f} kWh")
        if wanted not in text
    ]
    hours = list(csv.DictReader(energy_per_hour.splitlines()))
    total = sum((Decimal(hour["energyKwh"]) for hour in hours), Decimal(0))
    if len(hours) != 24 or abs(total - expected) > Decimal("0.05"):  # noqa: PLR2004 hours of a day
        problems.append(f"{site}: energy-per-hour.csv has {len(hours)} hours and {total} kWh")
    return problems


def result_problems(site: str, outcome: Mapping[str, Any] | None) -> list[str]:
    """Check the result of a site's task."""
    if not outcome:
        return [f"{site}: the task has returned no result"]
    wanted = {"status": "completed", "notebook_id": REPORT_NOTEBOOK}
    problems = [f"{site}: {key} is {outcome[key]!r}" for key in wanted if outcome[key] != wanted[key]]
    if datetime.fromisoformat(outcome["relative_to"]) != QUERY_TIME:
        problems.append(f"{site}: the Query Time was {outcome['relative_to']}")
    return problems


def stored_files_problems(folder: Path, *, is_exported: bool = False) -> list[str]:
    """
    Check the files that the DAGs have stored: exactly those of each site, and complete.

    :param is_exported: Whether the device data was exported into the same folder.
    """
    problems, found = [], {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    day = Path(f"{QUERY_TIME:%Y-%m-%d}")
    wanted = {day / site / name for site in expected_energy() for name in FILES}
    wanted |= {Path("export") / day / METERS} if is_exported else set()
    if found != wanted:
        problems.append(f"stored files: {sorted(map(str, found))}, not {sorted(map(str, wanted))}")
    for site in expected_energy():
        with suppress(FileNotFoundError):
            texts = [(folder / day / site / name).read_text() for name in FILES]
            problems += report_problems(site, *texts)
    return problems


def request_problems(requests: Iterable[Mapping[str, Any]], *, executions: Mapping[str, int]) -> list[str]:
    """
    Check the requests to Losant.

    :param requests: In order.
    :param executions: How many executions each notebook should have had, by notebook id.
    """
    seen = list(requests)
    started = Counter(
        request["path"].split("/")[-2] for request in seen if request["operation"] == "notebook.execute"
    )
    problems = [] if started == executions else [f"executions: {dict(started)}, not {dict(executions)}"]
    for request in seen:
        what = f"{request['method']} {request['path']}"
        if request["operation"] == "notebook.logs" and not {"limit", "since"} <= set(request["query"]):
            problems.append(f"{what} without limit and since: {request['query']}")
        if not request["headers"].get("user-agent"):
            problems.append(f"{what} without User-Agent")
    return problems


def leak_problems(secrets: Mapping[str, str], folder: Path) -> list[str]:
    """
    Search for secrets in all files of a folder.

    :param secrets: Values that must not be found, by name.
    """
    problems = []
    for path in sorted(folder.rglob("*")):
        # A journal of the database may disappear meanwhile.
        with suppress(FileNotFoundError, IsADirectoryError):
            content = path.read_bytes()
            problems += [
                f"{path} contains the {what}" for what in secrets if secrets[what].encode() in content
            ]
    return problems
