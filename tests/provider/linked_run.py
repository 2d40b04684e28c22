# SPDX-License-Identifier: Apache-2.0
"""Run the DAG of tasks with links in this process; prints its states and its links as Airflow shows them."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

from airflow_provider_losant._compat import AIRFLOW_3

LINK = "Open in Losant"


def main(conf: str) -> None:
    linked: Any = import_module("tests.provider.dags.linked").linked
    run = linked.test(run_conf=json.loads(conf))
    stored = linked
    if AIRFLOW_3:  # in Airflow 2, the web server calls the operator's own method
        serialization: Any = import_module("airflow.serialization.serialized_objects")
        kind = getattr(serialization, "DagSerialization", serialization.SerializedDAG)
        stored = kind.from_dict(kind.to_dict(linked))
    tasks = run.get_task_instances()
    links = {it.task_id: stored.get_task(it.task_id).get_extra_links(it, LINK) for it in tasks}
    print(json.dumps({"states": {it.task_id: str(it.state) for it in tasks}, "links": links}))


if __name__ == "__main__":
    main(sys.argv[1])
