# SPDX-License-Identifier: Apache-2.0
"""A run of the tests that ends early leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes import is_running, wait_for
from tests.support.tables import VARIABLE

RUN = """
import os, subprocess, sys, time
from pathlib import Path
from tests.support.run_watcher import watch_this_run
watcher = watch_this_run("{variable}", Path(os.environ["{variable}"]), grace=1.0)
renamed = "import setproctitle, time; setproctitle.setproctitle('airflow worker'); time.sleep(300)"
child = subprocess.Popen([sys.executable, "-c", renamed], start_new_session=True)
print(child.pid, watcher.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: str(number.name))
def test_a_signal_that_ends_the_tests_also_ends_what_they_have_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "of the run"
    folder.mkdir()
    env = os.environ | {VARIABLE: str(folder), "SPT_NOENV": "1"}
    command = [sys.executable, "-c", RUN.format(variable=VARIABLE)]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        started = [int(pid) for pid in run.stdout.readline().split()]
        run.send_signal(number)

    wait_for(lambda: not any(map(is_running, started)), what="all to end", timeout=60)
    assert not folder.exists()
