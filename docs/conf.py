# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds the documentation."""

from __future__ import annotations

from airflow_provider_losant import __version__

project = "airflow-provider-losant"
version = release = __version__
project_copyright = "the authors of airflow-provider-losant"

extensions = ["myst_parser"]
exclude_patterns = ["_build", "fault-table.md"]  # the table is part of another page
html_theme = "furo"
html_title = f"Losant for Airflow {__version__}"

# Anchors for links like quickstart.md#find-the-ids.
myst_heading_anchors = 3
nitpicky = True
