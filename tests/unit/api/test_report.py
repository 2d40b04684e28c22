# SPDX-License-Identifier: Apache-2.0
"""Which output of an execution is its report, and to which URLs a browser is sent."""

from __future__ import annotations

import pytest

from airflow_provider_losant.api.errors import (
    ExecutionNotFound,
    NotFound,
    OutputError,
    ProtocolError,
    ServerError,
)
from airflow_provider_losant.api.flows.report import find_report_url, select_report
from tests.support.factories import REF, execution
from tests.unit.api.flow_driver import FlowDriver

HTTPS = "https://files.example/a/result.html?X-Amz-Signature=%2Bab&x=1"
HTTP = HTTPS.replace("https:", "http:")


def url_of(url: str | None, *, may_be_http: bool = False, status: str = "completed") -> str:
    listed = execution(status, outputInfo={"result.html": {"url": url, "size": 3}})
    return FlowDriver([[listed]]).drive(find_report_url(REF, retries=0, may_be_http=may_be_http))


@pytest.mark.parametrize(
    ("names", "is_success", "report"),
    [
        (["out.csv", "result.pdf", "result.html"], True, "result.html"),
        (["result.pdf", "result.error.log"], True, "result.pdf"),
        (["result.pdf", "result.error.log"], False, "result.pdf"),
        (["result.error.log", "result.log"], False, "result.error.log"),
        (["result.error.log"], True, None),
        (["result.ipynb", "result.log", "report.html", "x/result.html"], False, None),
        ([], False, None),
    ],
)
def test_the_rendered_notebook_is_preferred_and_the_error_log_is_only_for_failures(
    names: list[str], is_success: bool, report: str | None
) -> None:
    assert select_report(names, is_success=is_success) == report


def test_the_url_is_passed_on_unchanged() -> None:
    assert url_of(HTTPS) == HTTPS
    assert url_of(HTTPS, status="errored") == HTTPS


def test_a_url_without_encryption_is_only_for_a_losant_without_it() -> None:
    assert url_of(HTTP, may_be_http=True) == HTTP
    with pytest.raises(ProtocolError):
        url_of(HTTP)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)//https://files.example",
        "data:text/html,<p>",
        "file:///etc/passwd",
        "//files.example/result.html",
        "/home",
        "report/result.htm",
        "https:/home",
        "https:home",
        "https://",
        "https://user:word@files.example/x",
        "https://files.example@evil.example/x",
        "https://files.example\\@evil.example/x",
        "https://files.example:99999/x",
        "https://files.example/x\r\nSet-Cookie: a=b",
        "https://files.example/a b",
        " https://files.example/",
        "https://files.example/\u2028",
        "https://[::1/x",
        "ftp://files.example/x",
    ],
)
@pytest.mark.parametrize("may_be_http", [False, True])
def test_a_browser_is_sent_to_nothing_but_a_file_host_and_the_error_does_not_tell_the_url(
    url: str, may_be_http: bool
) -> None:
    with pytest.raises(ProtocolError) as caught:
        url_of(url, may_be_http=may_be_http)

    assert url.strip() not in str(caught.value)


def test_an_output_without_a_url_or_that_is_gone_is_no_report() -> None:
    for outputs in ({}, {"result.html": {"size": 3}}, {"result.ipynb": {"url": HTTPS}}):
        flow = find_report_url(REF, retries=0, may_be_http=False)
        with pytest.raises(OutputError):
            FlowDriver([[execution("completed", outputInfo=outputs)]]).drive(flow)


def test_an_execution_that_is_gone_and_a_notebook_that_is_gone_are_reported_as_such() -> None:
    for response, error in (([], ExecutionNotFound), (NotFound(404, "NotFound", "gone"), NotFound)):
        with pytest.raises(error):
            FlowDriver([response]).drive(find_report_url(REF, retries=0, may_be_http=False))


def test_a_reader_does_not_wait_for_retries() -> None:
    driver = FlowDriver([ServerError(503, "", "down")])

    with pytest.raises(ServerError):
        driver.drive(find_report_url(REF, retries=0, may_be_http=False))

    assert (len(driver.calls), driver.sleeps) == (1, [])
