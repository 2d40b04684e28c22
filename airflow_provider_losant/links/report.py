# SPDX-License-Identifier: Apache-2.0
"""The link from a task instance to the report of its execution, where Airflow can serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow_provider_losant._compat import AIRFLOW_3, AIRFLOW_VERSION, conf, loop_region
from airflow_provider_losant.links import is_report_link_wanted
from airflow_provider_losant.links.notebook import XComLink, push_past_backend

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

    from airflow_provider_losant.api.model import ExecutionRef

URL_PREFIX = "/losant"
"""Where the routes of this provider are, below the root of Airflow's web pages."""
REPORT_KEY = "losant_report"
"""The XCom with what the route looks up: the ids of the execution, and the connection."""
# These do not read the session of the web pages on the route of a plugin.
_WITHOUT_SESSION = ("3.0.", "3.1.0")


def report_links_enabled() -> bool:
    """Return whether tasks have the link, and the web server its route."""
    return is_report_link_wanted() and not AIRFLOW_VERSION.startswith(_WITHOUT_SESSION)


class LosantReportLink(XComLink):
    """
    Opens the rendered notebook, or the error log of an execution that failed without one.

    The URL leads to a route of Airflow's web server, which asks Losant for a signed URL when a reader opens
    it, so nothing in Airflow's database gives access to the report. It is relative to the root of Airflow's
    web pages.
    """

    name = "Open report"
    key = "losant_report_link"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty if the task has not pushed it, because there is no report."""
        path = super().get_link(operator, ti_key=ti_key)
        # The pages of Airflow 3 have their root as base; those of Airflow 2 have none.
        return path if AIRFLOW_3 or not path else f"{_root_path()}/{path}"

    def offer(self, context: Any, ref: ExecutionRef, losant_conn_id: str) -> None:
        """
        Push the URL of this task instance, and what its route looks up.

        The try is part of both, so that the link of an earlier try never opens the report of a later one. The
        iterations of a loop (Airflow 3.4) get none: the parts of a path do not distinguish them.
        """
        if loop_region(context) != "":
            return
        ti = context["ti"]
        map_index, try_number = (-1 if ti.map_index is None else ti.map_index), str(ti.try_number)
        place = (ti.dag_id, ti.run_id, ti.task_id, str(map_index), try_number)
        ids = {name: getattr(ref, name) for name in ("application_id", "notebook_id", "execution_id")}
        push_past_backend(ti, REPORT_KEY, {**ids, "losant_conn_id": losant_conn_id, "try_number": try_number})
        self.push(context, "/".join([URL_PREFIX.strip("/"), "report", *(quote(it, safe="") for it in place)]))


def _root_path() -> str:  # before Airflow 3.0
    return urlsplit(str(conf.get("webserver", "base_url", fallback=""))).path.rstrip("/")
