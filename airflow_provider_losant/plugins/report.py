# SPDX-License-Identifier: Apache-2.0
"""
The plugin with the route of the link ``Open report``; registers nothing unless ``report_links`` is on.

Every component of Airflow imports this module, so it imports nothing else of the provider by itself.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin, conf


def _fastapi_apps(plugin: LosantReportPlugin) -> list[Any]:
    if not _is_wanted():
        return []
    from airflow_provider_losant._compat import AIRFLOW_3
    from airflow_provider_losant.links.report import URL_PREFIX, report_links_enabled

    if not AIRFLOW_3 or not report_links_enabled():  # before Airflow 3.1.1
        return []
    from airflow_provider_losant.plugins.report_fastapi import make_app

    return [{"name": plugin.name, "app": make_app(), "url_prefix": URL_PREFIX}]


def _flask_blueprints(_: LosantReportPlugin) -> list[Any]:
    if not _is_wanted():
        return []
    from airflow_provider_losant._compat import AIRFLOW_3

    if not AIRFLOW_3:  # before Airflow 3.0
        from airflow_provider_losant.plugins.report_flask import make_blueprint

        return [make_blueprint()]
    return []  # Airflow 3 reads these, too


def _is_wanted() -> bool:
    # Not the function of the package of the links, which no component has to import for this.
    return bool(conf.getboolean("losant", "report_links", fallback=False))


class LosantReportPlugin(AirflowPlugin):
    """
    Serve the route of the link ``Open report`` in Airflow's web server.

    Only the web server reads these attributes, so only there does the route import its web framework.
    """

    name = "losant_report"
    fastapi_apps: Any = cached_property(_fastapi_apps)
    flask_blueprints: Any = cached_property(_flask_blueprints)
