# SPDX-License-Identifier: Apache-2.0
"""Run the example DAGs on this machine: a real Airflow and a local Losant that executes notebooks."""
