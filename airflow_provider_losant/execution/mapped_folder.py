# SPDX-License-Identifier: Apache-2.0
"""Refuse a folder that all tasks of a mapping would share, as each would replace the files of the others."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jinja2.nodes import Expr, Template

_SAME_NAMES = frozenset(
    {
        *("conn", "dag", "dag_run", "run_id", "var", "expanded_ti_count", "task_instance_key_str"),
        *("logical_date", "execution_date", "data_interval_start", "data_interval_end", "partition_key"),
        *("ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz"),
        *("prev_data_interval_start_success", "prev_data_interval_end_success"),
        *("prev_start_date_success", "prev_end_date_success"),
    }
)
"""Names in Airflow's template context whose value is the same for all map indexes."""
_SAME_ATTRIBUTES = {
    "ti": {"dag_id", "task_id", "run_id", "try_number"},
    "task": {"dag_id", "task_id", "owner"},
    "macros": {"ds_add", "ds_format", "ds_format_locale"},
}
"""The same, of values that otherwise may differ."""
_SAME_ATTRIBUTES["task_instance"] = _SAME_ATTRIBUTES["ti"]


def check_mapped_folder(task: Any) -> None:
    """
    Check ``save_outputs_to`` of a mapped task, before anything is submitted.

    A folder is refused only if it is certain to be the same for all map indexes: if its template names
    nothing that can differ between them. It is not rendered for another map index, because what a template
    calls may have effects or be slow.

    :raises InvalidArgument: the folder is the same for all map indexes.
    """
    folder, same_names = _declaration(task)
    folder = folder.value if isinstance(folder, Enum) else folder
    # A value that Airflow resolves, such as the output of another task, is not in the DAG file.
    if folder is None or hasattr(folder, "iter_references"):
        return
    if all(name in same_names for name in _names(task.get_template_env().parse(str(folder)))):
        raise InvalidArgument(
            "save_outputs_to",
            f"{folder} is the same folder for all map indexes of this task, so each would replace the files "
            "of the others; add something that differs, such as {{ ti.map_index }} or a mapped argument",
        )


def _declaration(task: Any) -> tuple[Any, frozenset[str]]:
    """Return the folder as in the DAG file, None if it is mapped itself; and which names never differ."""
    declared = task.dag.get_task(task.task_id)
    if not hasattr(declared, "partial_kwargs"):  # a task of a mapped task group
        return declared.save_outputs_to, _SAME_NAMES | {"params"}
    mapped = declared.expand_input.value
    # The mapping of expand_kwargs() is a list, or the output of another task.
    has_own_params = not isinstance(mapped, dict) or "params" in mapped
    names = _SAME_NAMES if has_own_params else _SAME_NAMES | {"params"}
    return declared.partial_kwargs.get("save_outputs_to"), names


def _names(template: Template) -> Iterator[str]:
    """Yield the names that a template reads, except where it reads an attribute that is always the same."""
    from jinja2.nodes import Const, Getattr, Getitem, Name

    attributes: list[tuple[Expr, object]] = [(it.node, it.attr) for it in template.find_all(Getattr)]
    attributes += [(it.node, it.arg.value) for it in template.find_all(Getitem) if isinstance(it.arg, Const)]
    same = {
        id(owner)
        for owner, attribute in attributes
        if isinstance(owner, Name) and attribute in _SAME_ATTRIBUTES.get(owner.name, ())
    }
    yield from (it.name for it in template.find_all(Name) if id(it) not in same)
