# SPDX-License-Identifier: Apache-2.0
"""Links from a task instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink


def is_report_link_wanted() -> bool:
    """Return whether the configuration turns the link to the report on."""
    from airflow.providers.common.compat.sdk import conf

    return bool(conf.getboolean("losant", "report_links", fallback=False))


def optional_links() -> tuple[BaseOperatorLink, ...]:
    """Return the links that operators have only if the configuration turns them on."""
    if not is_report_link_wanted():
        return ()
    from airflow_provider_losant.links.report import LosantReportLink, report_links_enabled

    return (LosantReportLink(),) if report_links_enabled() else ()
