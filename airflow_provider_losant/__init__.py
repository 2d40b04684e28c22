# SPDX-License-Identifier: Apache-2.0
"""Run, await and observe Losant Notebooks from Apache Airflow."""

__version__ = "0.1.0"
