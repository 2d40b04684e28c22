# SPDX-License-Identifier: Apache-2.0
"""
Notebooks in OpenLineage's words; the only module that imports it, once Airflow asks for lineage.

A notebook is a job of its own, named by the API that runs it and not by Airflow, and an execution is a run
of that job: the same run, by whichever task, try or Airflow it is reported. It is the child of the task that
has started it.
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
    JobFacet,
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
    An execution of a notebook, in Losant's own terms.

    :param durations: Seconds in ``queue``, ``inputs``, ``notebook``, ``outputs`` and ``total``.
    :param url: The notebook's page in Losant.
    """

    applicationId: str  # noqa: N815 - OpenLineage spells so
    notebookId: str  # noqa: N815
    executionId: str  # noqa: N815
    status: str
    relativeTo: str | None = None  # noqa: N815
    durations: dict[str, float | None] = attr.field(factory=dict)
    url: str | None = None


def lineage_of_run(report: Report | None, task: BaseOperator, task_instance: Any) -> Lineage:
    """
    Return a task's lineage, and tell that of the notebook's run by events of its own.

    :param report: What the task has noted; None when it did not come to know of an execution.
    """
    if report is None:
        return Lineage()
    notebook, result = report.notebook, report.result
    inputs = _inputs(input_datasets(result, notebook, report.host))
    outputs = _outputs(output_datasets(result, notebook, report.host, is_success=report.status.is_success))
    try:
        for event in _events(report, task_instance, inputs, outputs):
            emit(event)
    except Exception:
        log.warning("The notebook's own run could not be told to OpenLineage", exc_info=True)
    sizes = {name: file["size"] for name, file in result["outputs"].items()}
    saved = result.get("saved_outputs", {})
    copies = (storage_dataset(path, sizes.get(name)) for name, path in saved.items())
    lineage = Lineage(inputs=inputs, outputs=[*outputs, *_outputs(copies)], run_facets=_describe(report))
    return _with_declared(lineage, task)


def lineage_of_copy(ref: ExecutionRef, host: str, saved: Mapping[str, str], task: BaseOperator) -> Lineage:
    """
    Return the lineage of a task that has copied output files of an execution.

    :param host: Losant's API, as in the connection.
    :param saved: The path of each by its name.
    """
    inputs = _inputs(output_file_datasets(ref, saved, host))
    return _with_declared(
        Lineage(inputs=inputs, outputs=_outputs(map(storage_dataset, saved.values()))), task
    )


def _with_declared(lineage: Lineage, task: BaseOperator) -> Lineage:
    """Add the task's inlets and outlets, which Airflow only looks at where an operator tells nothing."""
    for told, declared in ((lineage.inputs, task.inlets), (lineage.outputs, task.outlets)):
        known = {(it.namespace, it.name) for it in told}
        converted = (ExtractorManager.convert_to_ol_dataset(it) for it in declared or ())
        told.extend(it for it in converted if it and (it.namespace, it.name) not in known)
    return lineage


def _inputs(datasets: Iterable[Dataset]) -> list[InputDataset]:
    facet = input_statistics_input_dataset.InputStatisticsInputDatasetFacet
    return [
        InputDataset(
            namespace=it.namespace,
            name=it.name,
            inputFacets={} if it.size is None else {"inputStatistics": facet(size=it.size)},
        )
        for it in datasets
    ]


def _outputs(datasets: Iterable[Dataset]) -> list[OutputDataset]:
    facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
    return [
        OutputDataset(
            namespace=it.namespace,
            name=it.name,
            outputFacets={} if it.size is None else {"outputStatistics": facet(size=it.size)},
        )
        for it in datasets
    ]


def _describe(report: Report) -> dict[str, RunFacet]:
    """Say which execution it was."""
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
    """Make the events of the notebook's run: that it has begun, and how it has ended, if it has."""
    job, run = _job(report), _run(report, task_instance)
    ref = report.ref
    began = report.result["started_at"] or report.result["queued_at"] or _spell(ref.created_at)
    yield RunEvent(eventType=RunState.START, eventTime=began, run=run, job=job, inputs=inputs)
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
        about = "\n\n".join(filter(None, (report.notebook.name, report.notebook.description)))
        facets["documentation"] = documentation_job.DocumentationJobFacet(description=about)
    ref = report.ref
    return Job(
        namespace=namespace(report.host),
        name=notebook_path(ref.application_id, ref.notebook_id),
        facets=facets,
    )


def _run(report: Report, task_instance: Any) -> Run:
    facets = _describe(report)
    if report.result["relative_to"]:
        facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(report.result["relative_to"])
    if report.is_child:
        facets["parent"] = _parent(task_instance)
    ref = report.ref
    name = f"{namespace(report.host)}/{notebook_path(ref.application_id, ref.notebook_id)}/{ref.execution_id}"
    began = datetime.fromtimestamp(ref.created_at, UTC)
    return Run(runId=str(generate_static_uuid(began, name.encode())), facets=facets)


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


def _spell(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat()
