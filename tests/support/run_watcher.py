# SPDX-License-Identifier: Apache-2.0
"""
Stop what a run of the tests leaves running if it ends early.

SIGTERM and SIGKILL leave a run no time to stop anything, and after Ctrl-C its workers have ten seconds, which
is too short for an Airflow. So a process of its own waits until the run has ended, in whatever way.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.processes import having, kill_by_environment

GRACE = 30.0
"""Seconds in which the workers of a run may still stop what they have started."""
ATTEMPTS = 10
"""How often to look for more, because what is killed may just have started another process."""


def watch_this_run(name: str, folder: Path, grace: float = GRACE) -> subprocess.Popen[bytes]:
    """
    Start the process that watches this one.

    :param name: The environment variable that all processes of the run have; its value is the folder.
    :param folder: Of the run; deleted at its end.
    :param grace: Seconds in which they may end by themselves.
    :return: To be kept as long as the run lasts: it holds this process's end of a pipe to the watcher.
    """
    return subprocess.Popen(
        [sys.executable, "-m", __name__, name, str(folder), str(grace)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        # What reads the output of the run must not wait for the watcher.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main(name: str, folder: str, grace: float) -> None:
    """Wait until the run has ended, let its processes end, kill those that do not, and delete the folder."""
    sys.stdin.read()
    until = time.monotonic() + grace
    while having(name, folder) and time.monotonic() < until:
        time.sleep(0.5)
    for _ in range(ATTEMPTS):
        if not kill_by_environment(name, folder):
            break
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
