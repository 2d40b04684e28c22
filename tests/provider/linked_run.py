# SPDX-License-Identifier: Apache-2.0
"""Run the DAG of tasks with links in this process; prints its states and its links as Airflow shows them."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from airflow_provider_losant._compat import AIRFLOW_3
from airflow_provider_losant.plugins import report_fastapi, report_flask
from airflow_provider_losant.plugins.report_page import Place

PARTS = ("dag_id", "run_id", "task_id", "map_index", "try_number")
LINK, REPORT = "Open in Losant", "Open report"


def main(conf: str) -> None:
    linked: Any = import_module("tests.provider.dags.linked").linked
    run = linked.test(run_conf=json.loads(conf))
    stored = linked
    if AIRFLOW_3:  # in Airflow 2, the web server calls the operator's own method
        serialization: Any = import_module("airflow.serialization.serialized_objects")
        kind = getattr(serialization, "DagSerialization", serialization.SerializedDAG)
        stored = kind.from_dict(kind.to_dict(linked))
    tasks = run.get_task_instances()
    links, reports = (
        {it.task_id: stored.get_task(it.task_id).get_extra_links(it, name) for it in tasks}
        for name in (LINK, REPORT)
    )
    states = {it.task_id: str(it.state) for it in tasks}
    references = {name: reference(path) for name, path in reports.items() if path}
    print(json.dumps({"states": states, "links": links, "references": references}))


def reference(path: str) -> Any:
    """Return what the route of the web server reads for a link to a report."""
    server = report_fastapi if AIRFLOW_3 else report_flask
    return server._read_xcom(Place(**dict(zip(PARTS, map(unquote, path.split("/")[-5:]), strict=True))))


if __name__ == "__main__":
    main(sys.argv[1])
