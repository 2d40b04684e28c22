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

from tests.support.installer import pip_install, uv_environment, uv_install
from tests.support.paths import ROOT
from tests.support.progress import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VENV = ROOT / ".venv"
DOING = {
    "Collecting": "downloading",
    "Resolved": "downloading",
    "Prepared": "unpacking",
    "Installed": "compiling",
}
"""What pip and uv do next, by the first word of a line that they print."""


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
        step.note("once; later runs start at once")
        built_as.unlink(missing_ok=True)
        _run(step, log, [sys.executable, "-m", "venv", *([] if reusable else ["--clear"]), str(venv)])
        ours = f"{ROOT}[{','.join(wanted)}]" if wanted else str(ROOT)
        _install(step, log, python, ["-c", str(constraints), "-e", ours, *packages])
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


def _install(step: Step, log: Path, python: Path, packages: Sequence[str]) -> None:
    """Install packages by uv, or by pip if uv cannot be installed or fails."""
    by_pip = pip_install(python)
    try:
        _run(step, log, [*by_pip, "uv"])
        configuration = subprocess.check_output([str(python), "-m", "pip", "config", "list"], text=True)
        environment = uv_environment(configuration.splitlines())
        _run(step, log, [*uv_install(python), *packages], environment)
    except (SystemExit, OSError, subprocess.CalledProcessError, ValueError, SyntaxError):
        # The log has the reason. Whatever uv could not do, such as an index that needs a keyring, pip may.
        _run(step, log, [*by_pip, *packages])


def _run(step: Step, log: Path, command: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a command, append its output to the log, and show what it is doing."""
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if (words := line.split())[:1] and words[0] in DOING:
                # pip names a package, uv says how many there are.
                what = f"{words[1]} {words[2]}" if words[1].isdecimal() else words[1]
                step.note(f"{DOING[words[0]]} {what}")
    # Written afterwards: `venv --clear` empties the folder that holds the log.
    with log.open("a") as kept:
        kept.write("\n".join([" ".join(command), *lines, ""]))
    if process.returncode:
        tail = "\n".join(lines[-25:])
        raise SystemExit(f"{tail}\n\nThe environment could not be built; the full output is in {log}.")
