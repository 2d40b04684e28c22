# SPDX-License-Identifier: Apache-2.0
"""A process to share: ``python -m tests.unit.shared_server FOLDER``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.shared_process import Server

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if (folder / "broken").exists():
        raise SystemExit("it cannot start")
    with Server(folder) as server:
        server.serve(pid=os.getpid())
