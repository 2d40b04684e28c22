# SPDX-License-Identifier: Apache-2.0
"""Request an export of a notebook's input data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_losant._compat import BaseOperator
from airflow_provider_losant.exceptions import permanent_errors_as_config_error
from airflow_provider_losant.templates import TextTemplates

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context


class LosantNotebookInputDataExportOperator(TextTemplates, BaseOperator):
    """
    Request an export of the input files that an execution of the notebook would get.

    Losant exports in the background and sends the URL of the data by e-mail or callback; the task ends when
    Losant has accepted the request. Losant accepts one request per notebook in 15 minutes, so set ``retries``
    and a matching ``retry_delay``; the error contains the remaining time, if Losant sent it. A request whose
    response was lost is not sent again.

    The result (XCom) is a JSON dict: ``job_id``, ``notebook_id`` and ``application_id``.

    See Losant's `Notebook: Request Input Data Export
    <https://docs.losant.com/rest-api/notebook/#request-input-data-export>`__.

    :param notebook_id: ID of the notebook; give either this or ``notebook_name``. (templated)
    :param notebook_name: The notebook's exact name, by which it is found when the task starts. (templated)
    :param relative_to: Query time, to which the ``start`` and ``end`` of the notebook's inputs are relative:
        datetime, ISO-8601 text, or epoch *milliseconds*. Defaults to the time at which Losant receives the
        request. (templated)
    :param template_context: Values for the ``{{...}}`` of the notebook's inputs: a mapping, or the
        text of a JSON object. (templated)
    :param notification_email: Address to which Losant sends the URL of the data (Losant's option ``email``).
        (templated)
    :param callback_url: URL to which Losant posts the URL of the data. (templated)
    :param application_id: ID of the application; by default the connection's. (templated)
    :param losant_conn_id: The Airflow connection. (templated)
    :raises LosantConfigError: an argument, the connection or the token is invalid.
    :raises RateLimited: the notebook's last export was less than 15 minutes ago.
    """

    template_fields: Sequence[str] = (
        "notebook_id",
        "notebook_name",
        "relative_to",
        "template_context",
        "notification_email",
        "callback_url",
        "application_id",
        "losant_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"template_context": "json"}
    ui_color = "#e3f4e1"

    def __init__(
        self,
        *,
        notebook_id: str | None = None,
        notebook_name: str | None = None,
        relative_to: datetime | str | float | None = None,
        template_context: Mapping[str, Any] | str | None = None,
        notification_email: str | None = None,
        callback_url: str | None = None,
        application_id: str | None = None,
        losant_conn_id: str = "losant_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.notebook_id = notebook_id
        self.notebook_name = notebook_name
        self.relative_to = relative_to
        self.template_context = template_context
        self.notification_email = notification_email
        self.callback_url = callback_url
        self.application_id = application_id
        self.losant_conn_id = losant_conn_id
        from airflow_provider_losant.hooks.arguments import check_literals

        check_literals(self, LosantNotebookInputDataExportOperator)

    def execute(self, context: Context) -> dict[str, Any]:
        """Request the export, and return its job id."""
        from airflow_provider_losant.hooks.arguments import parse_optional
        from airflow_provider_losant.hooks.losant import LosantHook
        from airflow_provider_losant.hooks.target import resolve_notebook

        with permanent_errors_as_config_error():
            email = parse_optional("notification_email", self.notification_email)
            callback_url = parse_optional("callback_url", self.callback_url)
        hook = LosantHook(self.losant_conn_id, self.application_id)
        notebook_id = resolve_notebook(
            hook, context, notebook_id=self.notebook_id, notebook_name=self.notebook_name
        )
        with permanent_errors_as_config_error():
            job_id = hook.request_input_data_export(
                notebook_id,
                relative_to=self.relative_to,
                template_context=self.template_context,
                email=email,
                callback_url=callback_url,
            )
        self.log.info("Requested export job %s of the input data of notebook %s", job_id, notebook_id)
        return {
            "job_id": job_id,
            "notebook_id": notebook_id,
            "application_id": hook.resolve_application_id(),
        }
