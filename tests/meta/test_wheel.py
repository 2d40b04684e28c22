# SPDX-License-Identifier: Apache-2.0
"""What users install: the built distributions, and what Airflow makes of the installed wheel."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from airflow_provider_losant import __version__
from tests.meta.sources import PACKAGE, ROOT

DIST_INFO = f"{PACKAGE}-{__version__}.dist-info"
Run = Callable[..., str]

# Everything here waits for pip, a build or a start of Airflow, on whatever machine this is.
pytestmark = pytest.mark.timeout(180)


def run(*command: str | Path, **environment: str) -> str:
    """Run a command away from the checkout, and show all it said if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=os.environ["AIRFLOW_HOME"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution from the checkout, and the wheel from that, as a release does."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{DIST_INFO}/METADATA"))


@pytest.fixture(scope="module")
def airflow(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Install the wheel into a folder of its own, and return a Python that sees that folder first."""
    target = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", target, wheel)

    def python(*arguments: str) -> str:
        return run(sys.executable, *arguments, PYTHONPATH=str(target))

    place = python("-c", f"import {PACKAGE}; print({PACKAGE}.__file__)")
    assert place.startswith(str(target)), f"not the installed wheel but {place}"
    return python


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {str(file.relative_to(ROOT)) for file in (ROOT / PACKAGE).rglob("*.py")}

    assert {name.split("/")[0] for name in names} == {PACKAGE, DIST_INFO}
    assert {name for name in names if name.endswith(".py")} == sources
    assert {f"{PACKAGE}/py.typed", f"{PACKAGE}/LICENSE"} <= names


def test_the_source_distribution_can_be_tested(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {"pyproject.toml", "README.md", "tests/__main__.py", "docs/conf.py"} <= names
    assert {name for name in names if "__pycache__" in name or name.startswith((".venv", ".demo"))} == set()


def test_the_metadata_names_the_licence_and_carries_its_text(metadata: email.message.Message) -> None:
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == [f"{PACKAGE}/LICENSE"]
    assert "Framework :: Apache Airflow :: Provider" in metadata.get_all("Classifier", [])


def test_the_index_would_accept_both_distributions(dist: Path) -> None:
    said = run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.iterdir()))

    assert said.count("PASSED") == 2


def test_the_wheel_has_no_common_packaging_mistake(wheel: Path) -> None:
    said = run(sys.executable, "-m", "check_wheel_contents", "--config", ROOT / "pyproject.toml", wheel)

    assert said.endswith(": OK\n")


def test_airflow_lists_the_installed_provider(airflow: Run) -> None:
    listed = json_in(airflow("-m", "airflow", "providers", "list", "--output", "json"))

    assert [it["version"] for it in listed if it["package_name"] == "airflow-provider-losant"] == [
        __version__
    ]


def test_airflow_knows_the_connection_type_of_the_installed_provider(airflow: Run) -> None:
    hooks = json_in(airflow("-m", "airflow", "providers", "hooks", "--output", "json"))

    (hook,) = [it for it in hooks if it["connection_type"] == "losant"]
    assert hook["class"] == f"{PACKAGE}.hooks.losant.LosantHook"
    assert hook["conn_id_attribute_name"] == "losant_conn_id"


@pytest.mark.skipif(
    Version(version("apache-airflow")) < Version("3.2"),
    reason="before 3.2 no form is made from the provider info",
)
def test_the_connection_form_shows_our_fields(airflow: Run) -> None:
    code = (
        "import json\n"
        "from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService\n"
        "(form,) = [it for it in HookMetaService.hook_meta_data() if it.connection_type == 'losant']\n"
        "print(form.model_dump_json())"
    )
    form = json_in(airflow("-c", code))

    assert set(form["extra_fields"]) == {
        "application_id",
        "app_url",
        "timeout",
        "max_retries",
        "allow_http",
        "verify",
    }
    assert form["standard_fields"]["password"]["title"] == "API token"
    assert form["standard_fields"]["login"]["hidden"] is True


def test_the_installed_provider_adds_a_task_decorator(airflow: Run) -> None:
    code = (
        "from airflow.providers.common.compat.sdk import DAG, task\n"
        "import pendulum\n"
        "with DAG('d', start_date=pendulum.datetime(2026, 1, 1), schedule=None) as dag:\n"
        "    @task.losant_notebook(notebook_id='f' * 24, deferrable=True)\n"
        "    def report():\n"
        "        return {}\n"
        "    report()\n"
        "print(dag.get_task('report').custom_operator_name)"
    )

    assert airflow("-c", code).split("\n")[-2] == "@task.losant_notebook"


def json_in(said: str) -> Any:
    """Read the JSON line among the log lines."""
    (line,) = [line for line in said.splitlines() if re.match(r"[\[{]\S*\"|\[{", line)]
    return json.loads(line)
