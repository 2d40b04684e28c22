# SPDX-License-Identifier: Apache-2.0
"""A process that several workers of pytest share runs as long as one of them uses it, and no longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.processes import is_running, wait_for
from tests.support.shared_process import one_of, use

MODULE = "tests.unit.shared_server"
USER = f"""
import sys, time
from pathlib import Path
from tests.support.shared_process import use
with use(Path(sys.argv[1]), "{MODULE}") as announced:
    print(announced["pid"], flush=True)
    time.sleep(60)
"""


def wait_for_end(pid: int) -> None:
    """Wait for the end of a process, which needs a moment after it has released its locks."""
    wait_for(lambda: not is_running(pid), what="the process to end", timeout=20)


def test_users_at_the_same_time_share_a_process_that_ends_after_the_last(tmp_path: Path) -> None:
    with use(tmp_path, MODULE) as first:
        with use(tmp_path, MODULE) as second:
            assert first == second
        assert is_running(first["pid"])

    wait_for_end(first["pid"])


def test_a_user_after_the_last_starts_another_process(tmp_path: Path) -> None:
    with use(tmp_path, MODULE) as before:
        pass
    with use(tmp_path, MODULE) as after:
        assert after["pid"] != before["pid"]


def test_the_process_ends_when_its_only_user_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", USER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        pid = int(user.stdout.readline())
        user.kill()

    wait_for_end(pid)


def test_a_process_that_cannot_start_raises_what_it_printed(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()

    with pytest.raises(RuntimeError, match="ended with 1:\nit cannot start"), use(tmp_path, MODULE):
        pass


def test_so_many_processes_as_there_are_slots_run_at_a_time(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from tests.support.shared_process import one_of\n"
    code += "with one_of(2, Path(sys.argv[1])): print('in', flush=True)"
    with one_of(2, tmp_path):
        with one_of(2, tmp_path):
            waiting = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(2)
        assert waiting.wait(20) == 0
