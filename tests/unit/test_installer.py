# SPDX-License-Identifier: Apache-2.0
"""The environments are installed by uv from where pip would install, and by pip if that is not possible."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import environment
from tests.support.installer import COUNTERPARTS, uv_environment
from tests.support.progress import Step


@pytest.fixture(autouse=True)
def nothing_set_for_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {*COUNTERPARTS.values(), "UV_INDEX_STRATEGY", "UV_SYSTEM_CERTS"}:
        monkeypatch.delenv(name, raising=False)


def test_uv_uses_the_indexes_certificates_and_time_limits_of_pip() -> None:
    its = uv_environment(
        [
            "global.index-url='https://one.example/simple'",
            "global.extra-index-url='file:///two/simple\\nfile:///three/simple'",
            "install.find-links='/wheels /more'",
            "global.trusted-host='one.example'",
            ":env:.cert='/etc/authorities.pem'",
            ":env:.default-timeout='180'",
            "global.progress-bar='off'",
        ]
    )

    assert its["UV_DEFAULT_INDEX"] == "https://one.example/simple"
    assert its["UV_INDEX"] == "file:///two/simple file:///three/simple"
    assert its["UV_FIND_LINKS"] == "/wheels,/more"
    assert its["UV_INSECURE_HOST"] == "one.example"
    assert its["SSL_CERT_FILE"] == "/etc/authorities.pem"
    assert its["UV_HTTP_TIMEOUT"] == "180"
    assert its["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_a_variable_goes_before_a_section_and_a_section_before_the_general_setting() -> None:
    lines = [":env:.index-url='variable'", "global.index-url='general'", "install.index-url='section'"]

    assert uv_environment(lines)["UV_DEFAULT_INDEX"] == "variable"
    assert uv_environment(lines[1:])["UV_DEFAULT_INDEX"] == "section"


def test_what_is_set_for_uv_itself_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "mine")

    assert uv_environment(["global.index-url='of pip'"])["UV_DEFAULT_INDEX"] == "mine"


def test_settings_of_other_commands_and_other_output_are_ignored() -> None:
    nothing = uv_environment([])

    assert uv_environment(["download.index-url='other'", "no setting", "", "a=b=c"]) == nothing


def test_pip_describes_its_configuration_in_that_form(tmp_path: Path) -> None:
    settings = tmp_path / "pip.conf"
    settings.write_text("[global]\nindex-url = https://one.example/simple\nfind-links =\n    /a\n    /b\n")
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(
        command, env={"PIP_CONFIG_FILE": str(settings)}, capture_output=True, text=True, check=True
    )

    its = uv_environment(done.stdout.splitlines())

    assert its["UV_DEFAULT_INDEX"] == "https://one.example/simple"
    assert its["UV_FIND_LINKS"] == "/a,/b"


@pytest.mark.parametrize("failing", ["pip install uv", "uv pip install"])
def test_pip_installs_where_uv_cannot(failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python, log = tmp_path / "bin" / "python", tmp_path / "install.log"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\ncase "$*" in *uv) {_result(failing.endswith("uv"))};; esac\n')
    uv = python.with_name("uv")
    uv.write_text(f"#!/bin/sh\n{_result(failing.startswith('uv'))}\n")
    for program in (python, uv):
        program.chmod(0o755)

    with Step("install") as step:
        environment._install(step, log, python, ["a-package"])

    assert (
        log.read_text()
        .splitlines()[-1]
        .endswith("-m pip install --no-input --disable-pip-version-check a-package")
    )


def _result(fails: bool) -> str:
    return "exit 1" if fails else "exit 0"
