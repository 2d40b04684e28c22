# SPDX-License-Identifier: Apache-2.0
"""Test the DAG of the quickstart against a local emulator."""

# [START test_energy_report]
import json

import pytest
from airflow_provider_losant.emulator import Emulator, Fault, Script

from dags.energy_report import energy_report

NOTEBOOK = "5c782b8d4f3a8e51c1db42e4"
OUTPUTS = [{"outputType": "temporaryUrl", "fileName": "report.txt"}]


@pytest.fixture
def losant(monkeypatch):
    """Run an emulator that has the notebook, and point the connection to it."""
    with Emulator() as local:
        local.add_notebook(notebook_id=NOTEBOOK, file="energy.ipynb", outputs=OUTPUTS)
        connection = {
            "conn_type": "losant",
            "host": local.url,
            "password": local.token,
            "extra": {"application_id": local.application_id},
        }
        monkeypatch.setenv("AIRFLOW_CONN_LOSANT_DEFAULT", json.dumps(connection))
        yield local


@pytest.fixture
def dag():
    """Return the DAG, with shorter waits than in production."""
    made = energy_report()
    report = made.get_task("report")
    report.deferrable, report.poll_interval = False, 0.1
    return made


def test_the_report_is_saved(losant, dag, tmp_path):
    dag.get_task("report").save_outputs_to = str(tmp_path)

    run = dag.test()

    assert run.state == "success"
    assert (tmp_path / "report.txt").read_text().startswith("Energy of hamburg-harbour")


def test_a_lost_response_starts_one_execution(losant, dag):
    losant.inject("notebook.execute", Fault("reset_after"))

    assert dag.test().state == "success"
    assert len(losant.executions(NOTEBOOK)) == 1


def test_an_error_in_the_notebook_fails_the_task(losant, dag):
    losant.script(NOTEBOOK, Script(ending="errored", errors=(("ValueError", "no data"),)))

    assert dag.test().state == "failed"


# [END test_energy_report]
