# SPDX-License-Identifier: Apache-2.0
"""
Render the templated arguments of operators and sensors.

With ``render_template_as_native_obj=True``, Airflow evaluates what a template renders to as a Python literal,
which turns an id of digits into a number, and ``0012`` or ``1e5`` into something that cannot be turned back.
Arguments that are text by nature keep the text that the template renders to, or the object that a template
such as ``{{ params.names }}`` consists of. Only template contexts are rendered to native objects.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

    from airflow_provider_losant._compat import BaseOperator, Context

    Templater = BaseOperator
else:
    Templater = object

TEXT_FIELDS = frozenset(
    {
        *("notebook_id", "notebook_name", "execution_id", "application_id", "notebook_ids", "losant_conn_id"),
        *("relative_to", "since", "notification_email", "callback_url", "description"),
        *("path", "destination", "save_outputs_to", "outputs", "values_from"),
    }
)
"""Templated arguments that are text, a path or a timestamp, or a list of texts."""
JSON_FIELDS = frozenset({"template_context", "context_contains"})
"""Templated arguments that are JSON, in which native rendering makes numbers and lists."""


class TextTemplates(Templater):
    """Renders :data:`TEXT_FIELDS` as text, and a :class:`pathlib.Path` like the text that it holds."""

    _rendered_field = ""

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """
        Render a value, as Airflow does, and also paths, mappings and enums that Airflow leaves alone.

        :param seen_oids: Values that are not rendered: those that another task has returned, and those that
            have been rendered.
        """
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        if self._rendered_field and (seen_oids is None or id(content) not in seen_oids):
            if isinstance(content, Enum):
                content = content.value  # Jinja would render the name of a member that is text
            if isinstance(content, ObjectStoragePath):
                rendered = super().render_template(content, context, jinja_env, seen_oids)
                # Without a path it is the working directory of the process.
                return "" if str(rendered) == "." != str(content) else rendered
            if isinstance(content, PurePath):
                content = str(content)
            elif isinstance(content, Mapping) and not isinstance(content, dict):
                content = dict(content)
        return super().render_template(content, context, jinja_env, seen_oids)

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        outer = self._rendered_field
        try:
            for field in template_fields:
                is_own = parent is self and field in TEXT_FIELDS | JSON_FIELDS
                self._rendered_field = field if is_own else ""
                super()._do_render_template_fields(parent, (field,), context, jinja_env, seen_oids)
        finally:
            self._rendered_field = outer

    def _render(self, template: jinja2.Template, context: Context, dag: Any = None) -> Any:
        if self._rendered_field in TEXT_FIELDS:
            return _render_text(template, context)
        return super()._render(template, context, dag)


def _render_text(template: jinja2.Template, context: Context) -> Any:
    """
    Render a template to text; a native template of one expression to its value if that may be an argument.

    This is what Airflow does, without evaluating the text.
    """
    variables: Any = copy.copy(context)
    variables.update({name: it for name, it in template.globals.items() if name not in variables})
    env = template.environment
    try:
        parts: list[Any] = list(
            template.root_render_func(env.context_class(env, variables, template.name, template.blocks))
        )
    except Exception:  # noqa: BLE001 - raised again, with the line of the template
        env.handle_exception()
    if len(parts) == 1 and (parts[0] is None or isinstance(parts[0], date | Sequence | AbstractSet)):
        return parts[0]
    return "".join(map(str, parts))
