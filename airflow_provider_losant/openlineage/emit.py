# SPDX-License-Identifier: Apache-2.0
"""
Convert executions to OpenLineage's facets and events; the only module that imports OpenLineage.

It is imported when Airflow calls an operator's OpenLineage method. A notebook is an OpenLineage job in the
namespace of Losant's API, and an execution is a run of that job: always the same run, no matter which task,
try or Airflow deployment reports it. Its parent is the task that submitted it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attr
from airflow.providers.openlineage import conf
from airflow.providers.openlineage.api import emit
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.providers.openlineage.plugins import macros
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    InputDatasetFacet,
    JobFacet,
    OutputDatasetFacet,
    RunFacet,
    documentation_job,
    error_message_run,
    external_query_run,
    input_statistics_input_dataset,
    job_type_job,
    nominal_time_run,
    output_statistics_output_dataset,
    parent_run,
)
from openlineage.client.uuid import generate_static_uuid

from airflow_provider_losant.api.model import CANCELED, COMPLETED
from airflow_provider_losant.openlineage.datasets import (
    input_datasets,
    namespace,
    notebook_path,
    output_datasets,
    output_file_datasets,
    storage_dataset,
)

if TYPE_CHECKING:
    from airflow_provider_losant._compat import BaseOperator
    from airflow_provider_losant.api.model import ExecutionRef, Status
    from airflow_provider_losant.openlineage.collect import Report
    from airflow_provider_losant.openlineage.datasets import Dataset

Lineage = OperatorLineage[Any, Any]

log = logging.getLogger(__name__)
_STATES = {COMPLETED.name: RunState.COMPLETE, CANCELED.name: RunState.ABORT}


@attr.define
class LosantExecutionRunFacet(RunFacet):
    """
    Run facet with the fields of a Losant execution.

    :param durations: Seconds in ``queue``, ``inputs``, ``notebook``, ``outputs`` and ``total``.
    :param url: The notebook's page in Losant.
    """

    applicationId: str  # noqa: N815 - OpenLineage's spelling
    notebookId: str  # noqa: N815
    executionId: str  # noqa: N815
    status: str
    relativeTo: str | None = None  # noqa: N815
    durations: dict[str, float | None] = attr.field(factory=dict)
    url: str | None = None


def lineage_of_run(report: Report | None, task: BaseOperator, task_instance: Any) -> Lineage:
    """
    Return a task's lineage, and emit the events of the notebook's own run.

    :param report: What the task has collected; None if it knows no execution.
    """
    if report is None:
        return Lineage()
    notebook, result = report.notebook, report.result
    read = input_datasets(result, notebook, report.host)
    written = output_datasets(result, notebook, report.host, is_success=report.status.is_success)
    inputs, outputs = [_input(it) for it in read], [_output(it) for it in written]
    try:
        for event in _events(report, task_instance, inputs, outputs):
            emit(event)
    except Exception:
        log.warning("Could not emit OpenLineage events of the notebook's run", exc_info=True)
    sizes = {name: file["size"] for name, file in result["outputs"].items()}
    saved = result.get("saved_outputs", {})
    copies = [_output(storage_dataset(path, sizes.get(name))) for name, path in saved.items()]
    lineage = Lineage(inputs=inputs, outputs=[*outputs, *copies], run_facets=_run_facets(report))
    return _with_declared(lineage, task)


def lineage_of_copy(ref: ExecutionRef, host: str, saved: Mapping[str, str], task: BaseOperator) -> Lineage:
    """
    Return the lineage of a task that has copied output files of an execution.

    :param host: Losant's API, as in the connection.
    :param saved: The path of each file by its name.
    """
    inputs = [_input(it) for it in output_file_datasets(ref, saved, host)]
    outputs = [_output(storage_dataset(path)) for path in saved.values()]
    return _with_declared(Lineage(inputs=inputs, outputs=outputs), task)


def _with_declared(lineage: Lineage, task: BaseOperator) -> Lineage:
    """Add the task's inlets and outlets, which Airflow uses only if the operator reports no lineage."""
    for reported, declared in ((lineage.inputs, task.inlets), (lineage.outputs, task.outlets)):
        known = {(it.namespace, it.name) for it in reported}
        converted = (ExtractorManager.convert_to_ol_dataset(it) for it in declared or ())
        reported.extend(it for it in converted if it and (it.namespace, it.name) not in known)
    return lineage


def _input(it: Dataset) -> InputDataset:
    facet = input_statistics_input_dataset.InputStatisticsInputDatasetFacet
    facets: dict[str, InputDatasetFacet] = {}
    if it.size is not None:
        facets["inputStatistics"] = facet(size=it.size)
    return InputDataset(namespace=it.namespace, name=it.name, inputFacets=facets)


def _output(it: Dataset) -> OutputDataset:
    facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
    facets: dict[str, OutputDatasetFacet] = {}
    if it.size is not None:
        facets["outputStatistics"] = facet(size=it.size)
    return OutputDataset(namespace=it.namespace, name=it.name, outputFacets=facets)


def _run_facets(report: Report) -> dict[str, RunFacet]:
    """Return the facets that identify the execution."""
    result = report.result
    return {
        "externalQuery": external_query_run.ExternalQueryRunFacet(
            externalQueryId=result["execution_id"], source=namespace(report.host)
        ),
        "losant_execution": LosantExecutionRunFacet(
            applicationId=result["application_id"],
            notebookId=result["notebook_id"],
            executionId=result["execution_id"],
            status=result["status"],
            relativeTo=result["relative_to"],
            durations=dict(result["durations"]),
            url=result.get("url"),
        ),
    }


def _events(
    report: Report, task_instance: Any, inputs: list[InputDataset], outputs: list[OutputDataset]
) -> Iterable[RunEvent]:
    """Build the events of the notebook's run: its start, and its end if it has ended."""
    job, run = _job(report), _run(report, task_instance)
    ref = report.ref
    started_at = report.result["started_at"] or report.result["queued_at"] or _format(ref.created_at)
    yield RunEvent(eventType=RunState.START, eventTime=started_at, run=run, job=job, inputs=inputs)
    if report.status.is_final:
        yield RunEvent(
            eventType=_STATES.get(report.status.name, RunState.FAIL),
            eventTime=report.result["finished_at"] or datetime.now(UTC).isoformat(),
            run=Run(runId=run.runId, facets={**(run.facets or {}), **_failure(report, report.status)}),
            job=job,
            inputs=inputs,
            outputs=outputs,
        )


def _job(report: Report) -> Job:
    facets: dict[str, JobFacet] = {
        "jobType": job_type_job.JobTypeJobFacet(
            processingType="BATCH", integration="LOSANT", jobType="NOTEBOOK"
        )
    }
    if report.notebook is not None:
        description = "\n\n".join(filter(None, (report.notebook.name, report.notebook.description)))
        facets["documentation"] = documentation_job.DocumentationJobFacet(description=description)
    ref = report.ref
    return Job(
        namespace=namespace(report.host),
        name=notebook_path(ref.application_id, ref.notebook_id),
        facets=facets,
    )


def _run(report: Report, task_instance: Any) -> Run:
    facets = _run_facets(report)
    if report.result["relative_to"]:
        facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(report.result["relative_to"])
    if report.is_child:
        facets["parent"] = _parent(task_instance)
    ref = report.ref
    name = f"{namespace(report.host)}/{notebook_path(ref.application_id, ref.notebook_id)}/{ref.execution_id}"
    created_at = datetime.fromtimestamp(ref.created_at, UTC)
    return Run(runId=str(generate_static_uuid(created_at, name.encode())), facets=facets)


def _parent(task_instance: Any) -> parent_run.ParentRunFacet:
    return parent_run.ParentRunFacet(
        run=parent_run.Run(macros.lineage_run_id(task_instance)),
        job=parent_run.Job(namespace=conf.namespace(), name=macros.lineage_job_name(task_instance)),
        root=parent_run.Root(
            run=parent_run.RootRun(macros.lineage_root_run_id(task_instance)),
            job=parent_run.RootJob(
                namespace=macros.lineage_root_job_namespace(task_instance),
                name=macros.lineage_root_job_name(task_instance),
            ),
        ),
    )


def _failure(report: Report, status: Status) -> dict[str, RunFacet]:
    if status.is_success:
        return {}
    reasons = "; ".join(f"{it.get('name')}: {it.get('message')}" for it in report.errors)
    return {
        "errorMessage": error_message_run.ErrorMessageRunFacet(
            message=reasons or f"the execution ended as {status}",
            programmingLanguage="PYTHON",
            stackTrace=report.error_log,
        )
    }


def _format(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat()
