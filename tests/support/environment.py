# SPDX-License-Identifier: Apache-2.0
"""
Build the virtual environments of the demo, the tests and the benchmarks, in the root of the repository.

Standard library only: used before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.paths import ROOT
from tests.support.progress import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

VENV = ROOT / ".venv"


def ensure(
    extras: Sequence[str], constraints: Path, *, packages: Sequence[str] = (), venv: Path = VENV
) -> Path:
    """
    Build the environment unless it exists and is up to date, and return its interpreter.

    :param extras: The extras of this package to install.
    :param constraints: File with the exact version of every package.
    :param packages: Other packages to install.
    :param venv: The folder of the environment.
    :raises SystemExit: the environment cannot be built; the reason has been printed.
    """
    python, built_as = venv / "bin" / "python", venv / "built.json"
    built = json.loads(built_as.read_text()) if built_as.exists() and python.exists() else {}
    reusable = built.get("python") == sys.version
    stamp = {"python": sys.version, "digest": _digest(constraints, packages)}
    if reusable and built["digest"] == stamp["digest"] and set(extras) <= set(built["extras"]):
        return python
    wanted = sorted({*extras, *(built["extras"] if reusable else ())})
    log = venv / "install.log"
    with Step(f"Building the environment in {venv.name}") as step:
        built_as.unlink(missing_ok=True)
        _run(step, log, [sys.executable, "-m", "venv", *([] if reusable else ["--clear"]), str(venv)])
        pip = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        ours = f"{ROOT}[{','.join(wanted)}]" if wanted else str(ROOT)
        _run(step, log, [*pip, "-c", str(constraints), "-e", ours, *packages])
        built_as.write_text(json.dumps({**stamp, "extras": wanted}))
        step.note("")
    return python


def reenter(python: Path, module: str) -> None:
    """
    Replace this process by ``python -m module`` in the environment, unless it runs there already.

    :param python: The interpreter of the environment.
    :param module: The program that is running. It gets the same arguments again.
    """
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(python, [str(python), "-m", module, *sys.argv[1:]])


def _digest(constraints: Path, packages: Sequence[str]) -> str:
    """Return a hash of everything that decides what is installed."""
    sources = (ROOT / "pyproject.toml", constraints)
    names = (str(ROOT), *packages)
    parts = [*(name.encode() for name in names), *(source.read_bytes() for source in sources)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _run(step: Step, log: Path, command: list[str]) -> None:
    """Run a command, append its output to the log, and show the package that it is installing."""
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if line.startswith(("Collecting", "Installing")):
                step.note(" ".join(line.split()[:2]).rstrip(":"))
    # Written afterwards: `venv --clear` empties the folder that holds the log.
    with log.open("a") as kept:
        kept.write("\n".join([" ".join(command), *lines, ""]))
    if process.returncode:
        tail = "\n".join(lines[-25:])
        raise SystemExit(f"{tail}\n\nThe environment could not be built; the full output is in {log}.")
