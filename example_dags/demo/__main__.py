# SPDX-License-Identifier: Apache-2.0
"""
Run the example DAGs on this machine: ``python3 -m example_dags.demo [--all] [--keep]``.

Requires only Python with venv and pip. All files are in ``.venv`` and ``.demo`` in the root of the
repository, and all processes are stopped at the end.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from tests.support.airflow_versions import CONSTRAINTS, NEWEST
from tests.support.environment import ensure, reenter
from tests.support.paths import ROOT
from tests.support.progress import Step

if TYPE_CHECKING:
    from types import FrameType

    from example_dags.demo.losant import LocalLosant

FOLDER = ROOT / ".demo"
HOME = FOLDER / "airflow"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the demo; return 0 only if all checks passed."""
    parser = argparse.ArgumentParser(prog="python3 -m example_dags.demo", description=__doc__)
    parser.add_argument(
        "--keep", action="store_true", help="leave everything running until Ctrl-C, to use Airflow's UI"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="also deploy notebooks, store files, hand values over, approve a run, show lineage, and compare "
        "with Losant's client",
    )
    given = parser.parse_args()
    reenter(ensure(["demo", "test"] if given.all else ["demo"], CONSTRAINTS[NEWEST]), "example_dags.demo")
    for number in SIGNALS:
        signal.signal(number, _leave)
    started = time.monotonic()
    lock = _claim_folder()
    try:
        problems = compare() if given.all else []
        problems += run_demo(keep=given.keep, whole=given.all)
    except (RuntimeError, OSError) as error:
        problems = [str(error)]
    finally:
        os.close(lock)
    for problem in problems:
        print(f"  WRONG: {problem}")
    verdict = "Some checks failed" if problems else "All checks passed"
    print(f"\n{verdict}, after {time.monotonic() - started:.0f} s. Logs and results are in {FOLDER}.")
    return 1 if problems else 0


def compare() -> list[str]:
    """Compare the hook's requests with those of Losant's own client; return the problems."""
    suite = str(ROOT / "tests" / "contract" / "test_losant_rest.py")
    with Step("Comparing every request with Losant's own client") as step:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", suite]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
        (summary,) = [it for it in done.stdout.splitlines() if "operations equal" in it] or [
            "nothing to compare"
        ]
        step.note(summary)
    print(f"       {summary}")
    return [] if done.returncode == 0 else [f"the comparison failed:\n{done.stdout[-2000:]}"]


def run_demo(*, keep: bool, whole: bool = False) -> list[str]:
    """Start Losant and Airflow, run the example DAGs, show and check the results, and stop everything."""
    from example_dags.demo import checks, lineage, steps
    from example_dags.demo.losant import LocalLosant
    from tests.support.local_airflow import LocalAirflow, tails

    results = FOLDER / "results"
    with ExitStack() as stack:
        with Step("Starting a local Losant that executes notebooks"):
            losant = stack.enter_context(LocalLosant(FOLDER / "losant"))
        with Step("Starting Airflow with all its components"):
            env = {
                "AIRFLOW_VAR_LOSANT_LANDING": f"file://{FOLDER / 'landing'}",
                "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
                "AIRFLOW__LOSANT__REPORT_LINKS": "True",
            }
            if whole:
                env |= lineage.environment(FOLDER / "lineage")
            airflow = stack.enter_context(LocalAirflow(HOME, ROOT / "example_dags", env=env))
            airflow.add_connection("losant_default", **losant.connection())
            # Outside of a task the hook finds its connection in the environment.
            os.environ["AIRFLOW_CONN_LOSANT_DEFAULT"] = json.dumps(losant.connection())
        try:
            more = (
                [checks.DEPLOY_DAG, checks.EXPORT_DAG, checks.APPROVE_DAG, checks.VALUES_DAG] if whole else []
            )
            runs = steps.run_dags(airflow, losant, *more)
        except Exception:
            print(tails(HOME, 15))
            raise
        reports = steps.read_reports(airflow, runs)
        with Step("Downloading the reports and checking them"):
            problems = steps.check(airflow, losant, runs, reports, results)
        steps.show(airflow, runs, reports, results)
        print()
        if keep:
            _wait_for_ctrl_c(airflow.url, losant)
        with Step("Stopping everything"):
            stack.close()
    return problems


def _wait_for_ctrl_c(airflow_url: str, losant: LocalLosant) -> None:
    print(f"  Airflow  {airflow_url}  (no login is required)")
    print(f"  Losant   {losant.app_url}/applications/{losant.application_id}")
    print(f"           {losant.url}/_emulator/requests  (its requests)")
    print("\nTrigger runs a DAG again, up to the latest midnight. Ctrl-C stops everything.", flush=True)
    with suppress(SystemExit):
        signal.pause()


def _claim_folder() -> int:
    """Lock and empty the working folder; return the file descriptor that holds the lock."""
    from tests.support.processes import kill_by_environment

    FOLDER.mkdir(exist_ok=True)
    lock = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"Another demo is running in {FOLDER}.") from None
    # A demo that got SIGKILL could not stop its processes.
    kill_by_environment("AIRFLOW_HOME", str(HOME))
    for path in FOLDER.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    # Outside of a task the hook reads Airflow's settings from here. Its log would break the progress line.
    os.environ |= {"AIRFLOW_HOME": str(HOME), "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
    return lock


def _leave(number: int, _frame: FrameType | None) -> None:
    """Leave every ``with`` block, without further interruptions."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
