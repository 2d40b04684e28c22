# SPDX-License-Identifier: Apache-2.0
"""The route of the link ``Open report`` in the API server of Airflow 3, which alone imports its framework."""

from __future__ import annotations

from http import HTTPStatus
from inspect import signature
from typing import Any

from airflow_provider_losant.links.report import REPORT_KEY
from airflow_provider_losant.plugins.report_page import Place, Response, open_report, refusal


def make_app() -> Any:
    """
    Return the app, which Airflow mounts without any authentication of its own (apache/airflow#72655).

    It has nothing but the route: no description of itself, and pages instead of JSON for errors.
    """
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
    from fastapi import Depends, FastAPI
    from starlette.exceptions import HTTPException

    def possible_place(*, dag_id: str, run_id: str, task_id: str, map_index: str, try_number: str) -> Any:
        place = Place(
            dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=map_index, try_number=try_number
        )
        if not place.is_possible:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return place

    place_of_path, user_of_session = Depends(possible_place), Depends(get_user)

    # FastAPI calls it in a thread, after the dependencies have let the request pass.
    def report(*, place: Any = place_of_path, user: Any = user_of_session) -> Any:
        return _http(open_report(place, str(user.get_id()), _read_xcom))

    def refuse(_: Any, error: Any) -> Any:
        return _http(refusal(error.status_code))

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    app.add_api_route(
        Place.path("{%s}"),
        report,
        methods=["GET"],
        response_model=None,
        # In this order: Airflow looks the DAG up to know who may read it.
        dependencies=[place_of_path, Depends(requires_access_dag("GET", DagAccessEntity.XCOM))],
    )
    app.add_exception_handler(HTTPException, refuse)
    return app


def _read_xcom(place: Place) -> Any:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    # Where Airflow keeps the XComs of each try (3.4): those of this one.
    is_of_try = "try_number" in signature(XComModel.get_many).parameters
    more: dict[str, Any] = {"try_number": int(place.try_number)} if is_of_try else {}
    with create_session() as session:
        found: Any = session.scalars(
            XComModel.get_many(
                key=REPORT_KEY,
                dag_ids=place.dag_id,
                run_id=place.run_id,
                task_ids=place.task_id,
                map_indexes=int(place.map_index),
                limit=1,
                **more,
            )
        ).first()
        return None if found is None else found.value


def _http(response: Response) -> Any:
    from fastapi import Response as HttpResponse

    return HttpResponse(response.body, status_code=int(response.status), headers=dict(response.headers))
