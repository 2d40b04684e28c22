# SPDX-License-Identifier: Apache-2.0
"""Find the output of an execution that a reader opens: the rendered notebook, or its error log."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_losant.api.errors import OutputError, ProtocolError
from airflow_provider_losant.api.flows.outputs import find_execution
from airflow_provider_losant.api.model import ERROR_LOG

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.model import ExecutionRef

RENDERED = ("result.html", "result.pdf")
"""The notebook with its plots, the best first."""
# What a browser would read in another way than Python: line ends, blanks, a backslash for a slash.
_PLAIN = re.compile(r"(?!.*\\)[!-~]+")


def select_report(names: Container[str], *, is_success: bool) -> str | None:
    """
    Return which of an execution's outputs a reader opens; None if there is none.

    :param names: The names of the outputs.
    :param is_success: The execution completed; otherwise its error log is better than nothing.
    """
    candidates = RENDERED if is_success else (*RENDERED, ERROR_LOG)
    return next((it for it in candidates if it in names), None)


def find_report_url(ref: ExecutionRef, *, retries: int, may_be_http: bool) -> Flow[str]:
    """
    Return a new signed URL of an ended execution's report, to which a browser can be sent.

    :param retries: How often a failed request is retried.
    :param may_be_http: The URL need not be encrypted, because Losant's API is not either.
    :raises ExecutionNotFound: the log does not list the execution.
    :raises LogIncomplete: the log does not list it, but could not be read back to its submission.
    :raises OutputError: the execution has no report.
    :raises ProtocolError: what Losant returned is not the URL of a file; the message does not contain it.
    """
    execution = yield from find_execution(ref, retries)
    name = select_report(execution.outputs, is_success=execution.status.is_success)
    url = None if name is None else execution.outputs[name].url
    if not url:
        raise OutputError(f"the {ref} has no report")
    if not _is_file_url(url, ("https", "http") if may_be_http else ("https",)):
        raise ProtocolError(f"Losant returned no valid URL for {name} of the {ref}")
    return url


def _is_file_url(url: str, schemes: Container[str]) -> bool:
    if not _PLAIN.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        is_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return is_host and parts.scheme in schemes and "@" not in parts.netloc
