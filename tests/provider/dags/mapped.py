# SPDX-License-Identifier: Apache-2.0
"""Mapped tasks that save outputs, each with a folder that differs between its map indexes, or does not."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, task_group

from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

ROOT = "{{ dag_run.conf['folder'] }}"
SITES = [{"site": "north"}, {"site": "south"}]
APART = {
    "by_index": f"{ROOT}/{{{{ ti.map_index }}}}",
    "by_argument": f"{ROOT}/{{{{ task.template_context['site'] }}}}",
    "by_name": f"{ROOT}/{{{{ task_instance.rendered_map_index or ti['map_index'] }}}}",
}
SHARED = {
    "plain": f"{ROOT}/same",
    "by_date": f"{ROOT}/{{{{ ds }}}}/{{{{ macros.ds_format(ds, '%Y-%m-%d', '%Y') }}}}",
    "by_task": f"{ROOT}/{{{{ dag.dag_id }}}}/{{{{ ti.task_id }}}}/{{{{ task['task_id'] }}}}/{{{{ run_id }}}}",
    "by_params": f"{ROOT}/{{{{ params.folder }}}}",
}
COMMON: dict[str, Any] = {"notebook_id": "{{ dag_run.conf['notebook'] }}", "poll_interval": 0.02}

with DAG(
    "mapped", start_date=pendulum.datetime(2026, 1, 1), schedule=None, params={"folder": "reports"}
) as mapped:
    for name, folder in (APART | SHARED).items():
        LosantNotebookExecuteOperator.partial(task_id=name, save_outputs_to=folder, **COMMON).expand(
            template_context=SITES
        )
    LosantNotebookExecuteOperator.partial(task_id="mapped_folder", **COMMON).expand(
        save_outputs_to=[f"{ROOT}/first", f"{ROOT}/second"]
    )
    LosantNotebookExecuteOperator.partial(task_id="mapped_kwargs", **COMMON).expand_kwargs(
        [
            {"save_outputs_to": f"{ROOT}/{number}", "template_context": site}
            for number, site in enumerate(SITES)
        ]
    )
    LosantNotebookExecuteOperator.partial(task_id="not_saved", **COMMON).expand(template_context=SITES)

    @losant_notebook_task(save_outputs_to=f"{ROOT}/{{{{ task.op_kwargs['site'] }}}}", **COMMON)
    def decorated(site: str) -> dict[str, str]:
        return {"site": site}

    decorated.expand(site=["north", "south"])
    decorated.override(task_id="decorated_shared", save_outputs_to=f"{ROOT}/same").expand(
        site=["north", "south"]
    )

    @task_group
    def sites(site: dict[str, str]) -> None:
        for name, folder in {
            "apart": f"{ROOT}/{{{{ ti.map_index }}}}",
            "shared": f"{ROOT}/{{{{ ds }}}}",
        }.items():
            LosantNotebookExecuteOperator(
                task_id=name, template_context=site, save_outputs_to=folder, **COMMON
            )

    sites.expand(site=SITES)
