# SPDX-License-Identifier: Apache-2.0
"""The route of the link ``Open report`` in the API server of Airflow 3."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, Request
from fastapi import Response as HttpResponse
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from airflow_provider_losant.links.report import REPORT_KEY
from airflow_provider_losant.plugins.report_page import Place, Response, open_report, refusal


def make_app() -> FastAPI:
    """
    Return the app, which Airflow mounts without any authentication of its own (apache/airflow#72655).

    It has nothing but the route: no description of itself, and pages instead of JSON for errors.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    app.add_api_route(
        "/report/{dag_id}/{run_id}/{task_id}/{map_index}",
        report,
        methods=["GET"],
        response_model=None,
        dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.XCOM))],
    )
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    return app


def report(dag_id: str, run_id: str, task_id: str, map_index: str, user: GetUserDep) -> HttpResponse:
    """Redirect to the report; FastAPI runs this in a thread, after the dependencies have let it pass."""
    place = Place(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index)
    return _http(open_report(place, str(user.get_id()), _read_xcom))


def _read_xcom(place: Place, map_index: int) -> Any:
    with create_session() as session:
        found: Any = session.scalars(
            XComModel.get_many(
                key=REPORT_KEY,
                dag_ids=place.dag_id,
                run_id=place.run_id,
                task_ids=place.task_id,
                map_indexes=map_index,
                limit=1,
            )
        ).first()
        return None if found is None else found.value


def _refuse(_: Request, error: Exception) -> HttpResponse:
    if isinstance(error, HTTPException):
        return _http(refusal(error.status_code))
    return _http(refusal(HTTPStatus.NOT_FOUND))


def _http(response: Response) -> HttpResponse:
    return HttpResponse(response.body, status_code=int(response.status), headers=dict(response.headers))
