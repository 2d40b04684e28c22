# SPDX-License-Identifier: Apache-2.0
"""The installed wheel in an environment of its own, and how Airflow uses it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from airflow_provider_losant import __version__
from airflow_provider_losant.emulator import Emulator
from tests.support.airflow_versions import examples_beyond
from tests.support.installed import Run, json_in
from tests.support.source_files import PACKAGE, modules

# Everything here waits for pip and for a start of Airflow, on whatever machine this is.
pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("built-wheel")]

IMPORT_ALL = f"""
import importlib, json, pkgutil, warnings
import {PACKAGE} as package
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    names = [it.name for it in pkgutil.walk_packages(package.__path__, "{PACKAGE}.")]
    names = [name for name in names if not name.endswith("__main__")]
    for name in names:
        importlib.import_module(name)
ours = [str(it) for it in said if it.filename.startswith(package.__path__[0])]
print(json.dumps([names, ours]))
"""

LOAD_EXAMPLES = """
import json, os, sys
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # before Airflow 3.2
    from airflow.models.dagbag import DagBag
bag = DagBag(sys.argv[1])
files = sorted({os.path.basename(dag.fileloc) for dag in bag.dags.values()})
warned = [text for texts in bag.captured_warnings.values() for text in texts]
print(json.dumps([files, bag.import_errors, warned]))
"""

VALIDATE = """
import json
from importlib.metadata import distribution
from importlib.resources import files
from jsonschema import validate
(point,) = distribution("airflow-provider-losant").entry_points.select(group="apache_airflow_provider")
info = point.load()()
validate(info, json.loads(files("airflow").joinpath("provider_info.schema.json").read_text()))
print(json.dumps([info["package-name"], point.load().__module__]))
"""


def test_every_module_can_be_imported_without_a_warning(airflow: Run) -> None:
    names, warned = json_in(airflow("-c", IMPORT_ALL))

    packages_and_modules = {name for name in modules() if not name.endswith("__main__")} - {PACKAGE}
    assert set(names) == packages_and_modules
    assert warned == []


def test_every_example_loads_without_an_error_or_a_warning(airflow: Run, unpacked: Path) -> None:
    examples = unpacked / "example_dags"

    loaded, errors, warned = json_in(airflow("-c", LOAD_EXAMPLES, examples))

    beyond = examples_beyond(version("apache-airflow"))
    # One that is for later Airflows may load, too.
    assert [it for it in loaded if Path(it).stem not in beyond] == sorted(
        file.name for file in examples.glob("losant_*.py") if file.stem not in beyond
    )
    assert {Path(name).stem: text for name, text in errors.items() if Path(name).stem not in beyond} == {}
    # A warning begins with the file at fault; others warn about each other.
    assert [it for it in warned if PACKAGE in it.partition(": ")[0]] == []


def test_airflow_accepts_the_description_by_its_own_schema(airflow: Run) -> None:
    name, module = json_in(airflow("-c", VALIDATE))

    assert (name, module) == ("airflow-provider-losant", f"{PACKAGE}.get_provider_info")


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


def test_airflows_connection_test_sends_a_request_to_losant(airflow: Run) -> None:
    with Emulator() as losant:
        connection = {
            "conn_type": "losant",
            "host": losant.url,
            "password": losant.token,
            "extra": {"application_id": losant.application_id},
        }
        said = airflow(
            *("-m", "airflow", "connections", "test", "losant_default"),
            AIRFLOW__CORE__TEST_CONNECTION="Enabled",
            AIRFLOW_CONN_LOSANT_DEFAULT=json.dumps(connection),
        )

    assert "Connection success!" in said
    assert losant.token not in said
    assert losant.requests[0].operation == "notebooks.get"


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
