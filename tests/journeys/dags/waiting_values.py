# SPDX-License-Identifier: Apache-2.0
"""The example that hands values over, a second time as a DAG whose tasks wait in a worker of Airflow."""

from __future__ import annotations

from example_dags.demo.checks import EXAMPLES, VALUES_DAG

# Airflow only loads a file that contains its name.
_SOURCE = (EXAMPLES / f"{VALUES_DAG}.py").read_text().replace("deferrable=True", "deferrable=False")
exec(compile(_SOURCE.replace(VALUES_DAG, "journey_waiting_values"), __file__, "exec"))
