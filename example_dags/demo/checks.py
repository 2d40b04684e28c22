# SPDX-License-Identifier: Apache-2.0
"""What must be true after the main job has run. Each check returns its complaints; no complaint is good."""

from __future__ import annotations

import csv
import html
import re
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
LANDING_DAG = "losant_deploy_and_land"
FILES = ("result.html", "energy-per-hour.csv")

# The sample data begin on 2 March 2026 and last four days.
QUERY_TIME = datetime(2026, 3, 5, tzinfo=UTC)
DATA_INTERVAL = (QUERY_TIME - timedelta(days=1), QUERY_TIME)


def expected_energy() -> dict[str, Decimal]:
    """Add up, without pandas and without Losant, the kWh of each site in the demo's 24 hours."""
    first, last = (int(at.timestamp() * 1000) for at in DATA_INTERVAL)
    energy: dict[str, Decimal] = {}
    with (EXAMPLES / "data" / "energy-meters.csv").open(newline="") as readings:
        for row in csv.DictReader(readings):
            if first <= int(row["Timestamp"]) < last:
                site = row["site"]
                energy[site] = energy.get(site, Decimal(0)) + Decimal(row["energyKwh"])
    return energy


def report_complaints(site: str, report: str, energy_per_hour: str) -> list[str]:
    """
    Check the two files that the notebook has made for a site.

    :param report: Text of ``result.html``.
    :param energy_per_hour: Text of ``energy-per-hour.csv``.
    """
    expected = expected_energy()[site]
    text = html.unescape(re.sub(r"<[^>]*>", "", report))
    complaints = [
        f"{site}: result.html does not say {wanted!r}"
        for wanted in (f"Site: {site}", f"Energy: {expected:.3f} kWh")
        if wanted not in text
    ]
    hours = list(csv.DictReader(energy_per_hour.splitlines()))
    total = sum((Decimal(hour["energyKwh"]) for hour in hours), Decimal(0))
    if len(hours) != 24 or abs(total - expected) > Decimal("0.05"):  # noqa: PLR2004 hours of a day
        complaints.append(f"{site}: energy-per-hour.csv has {len(hours)} hours and {total} kWh")
    return complaints


def result_complaints(site: str, outcome: Mapping[str, Any] | None) -> list[str]:
    """Check the dictionary that the task of a site has returned."""
    if not outcome:
        return [f"{site}: the task has returned nothing"]
    wanted = {"status": "completed", "notebook_id": REPORT_NOTEBOOK}
    complaints = [f"{site}: {key} is {outcome[key]!r}" for key in wanted if outcome[key] != wanted[key]]
    if datetime.fromisoformat(outcome["relative_to"]) != QUERY_TIME:
        complaints.append(f"{site}: the Query Time was {outcome['relative_to']}")
    return complaints


def landing_complaints(landing: Path) -> list[str]:
    """Check the files that the DAG has landed: those of each site, whole, and nothing beside them."""
    complaints, found = [], {path.relative_to(landing) for path in landing.rglob("*") if path.is_file()}
    day = Path(f"{QUERY_TIME:%Y-%m-%d}")
    wanted = {day / site / name for site in expected_energy() for name in FILES}
    if found != wanted:
        complaints.append(f"landed: {sorted(map(str, found))}, not {sorted(map(str, wanted))}")
    for site in expected_energy():
        with suppress(FileNotFoundError):
            texts = [(landing / day / site / name).read_text() for name in FILES]
            complaints += report_complaints(site, *texts)
    return complaints


def request_complaints(requests: Iterable[Mapping[str, Any]], *, executions: Mapping[str, int]) -> list[str]:
    """
    Check what Losant saw.

    :param requests: Losant's requests, in order.
    :param executions: How many executions each notebook should have had, by notebook id.
    """
    seen = list(requests)
    started = Counter(
        request["path"].split("/")[-2] for request in seen if request["operation"] == "notebook.execute"
    )
    complaints = [] if started == executions else [f"executions: {dict(started)}, not {dict(executions)}"]
    for request in seen:
        what = f"{request['method']} {request['path']}"
        if request["operation"] == "notebook.logs" and not {"limit", "since"} <= set(request["query"]):
            complaints.append(f"{what} without limit and since: {request['query']}")
        if not request["headers"].get("user-agent"):
            complaints.append(f"{what} without User-Agent")
    return complaints


def leak_complaints(secrets: Mapping[str, str], folder: Path) -> list[str]:
    """
    Look for secrets in all files of a folder.

    :param secrets: What must not be found, by what it is.
    """
    complaints = []
    for path in sorted(folder.rglob("*")):
        # A journal of the database may come and go while we look.
        with suppress(FileNotFoundError, IsADirectoryError):
            content = path.read_bytes()
            complaints += [
                f"{path} holds the {what}" for what in secrets if secrets[what].encode() in content
            ]
    return complaints
