# SPDX-License-Identifier: Apache-2.0
"""
What the arguments of operators, sensors and transfers may be, by name.

The same parsers check a value that stands in the DAG when the DAG is parsed, and every value when its task
runs. DAG files load this module, so it imports little.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from functools import cache
from inspect import signature
from os import PathLike
from typing import Any, Protocol, get_args

from airflow_provider_losant.api import defaults
from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import (
    file_name,
    file_patterns,
    is_given,
    items,
    losant_id,
    losant_ids,
    parse_statuses,
    positive_integer,
    positive_number,
    refuse,
    text,
)
from airflow_provider_losant.api.payloads import email_address, http_url, json_objects
from airflow_provider_losant.api.timestamps import parse_seconds, parse_timestamp


class Parser(Protocol):
    """
    Returns an argument in the type that the provider computes with.

    :param field: The argument's name, for the error.
    :raises InvalidArgument: the value is missing or invalid.
    """

    def __call__(self, value: object, /, *, field: str) -> Any: ...


def flag(value: object, *, field: str) -> bool:
    """Return a boolean; text is refused, because also the text ``False`` would be true."""
    if not isinstance(value, bool):
        refuse(value, field, "is neither True nor False")
    return value


def one_of(options: Collection[str]) -> Parser:
    """Return the parser of an argument that is one of these texts."""

    def parse(value: object, *, field: str) -> str:
        if not isinstance(value, str) or value not in options:
            refuse(value, field, f"is none of {', '.join(options)}")
        return value

    return parse


def some_of(options: Collection[str]) -> Parser:
    """Return the parser of an argument that is one of these texts, or a list of some or none of them."""
    parse_one = one_of(options)

    def parse(value: object, *, field: str) -> tuple[str, ...]:
        values = [value] if isinstance(value, str) else items(value, field, f"a list of {', '.join(options)}")
        return tuple(parse_one(it, field=field) for it in values)

    return parse


def any_text(value: object, *, field: str) -> str:
    """Return text, which may be empty."""
    return value if isinstance(value, str) else text(value, field=field)


def storage_location(value: object, *, field: str) -> Any:
    """Return a local path, a URL of an object storage, or an ``ObjectStoragePath``, as it is."""
    is_path = isinstance(value, PathLike) or hasattr(type(value), "fs")
    if not is_path and not (isinstance(value, str) and value.strip()):
        refuse(value, field, "is neither a path nor a URL")
    return value


PARSERS: Mapping[str, Parser] = {
    **dict.fromkeys(("application_id", "notebook_id", "execution_id"), losant_id),
    **dict.fromkeys(("losant_conn_id", "notebook_name", "image_version"), text),
    **dict.fromkeys(("relative_to", "since"), parse_timestamp),
    **dict.fromkeys(("poll_interval", "timeout", "max_poll_outage", "max_log_lag"), parse_seconds),
    **dict.fromkeys(("min_age", "max_age"), parse_seconds),
    **dict.fromkeys(("wait_for_completion", "deferrable", "start_from_trigger", "create", "batch"), flag),
    **dict.fromkeys(("cancel_on_kill", "cancel_on_timeout", "durable", "reconnect_after_clear"), flag),
    **dict.fromkeys(("path", "destination", "save_outputs_to"), storage_location),
    "description": any_text,
    "log_output": flag,
    "if_running": one_of(get_args(defaults.IfRunning)),
    "minutes_window": one_of(get_args(defaults.Window)),
    "on_exceeded": one_of(get_args(defaults.OnExceeded)),
    "save_outputs_when": one_of(get_args(defaults.SaveOutputsWhen)),
    "if_exists": one_of(get_args(defaults.IfExists)),
    "retry_on": some_of(defaults.RETRY_ON),
    "statuses": parse_statuses,
    "max_minutes": positive_number,
    "max_bytes": positive_integer,
    **dict.fromkeys(("notification_email", "email"), email_address),
    "callback_url": http_url,
    "values_from": file_name,
    "outputs": file_patterns,
    "notebook_ids": losant_ids,
}
UPLOAD_PARSERS: Mapping[str, Parser] = {**PARSERS, "inputs": json_objects, "outputs": json_objects}
"""The parsers of the arguments that describe a notebook; a transfer's ``outputs`` are files."""
_DELIMITER = re.compile(r"(?!://)(?<!:)[^\w\s\"']{2}")
"""Two punctuation characters, but no quotes or ``://``: a DAG may have Jinja delimiters of its own."""


def parse_argument(name: str, value: object, parsers: Mapping[str, Parser] = PARSERS) -> Any:
    """
    Return an argument in the type that the provider computes with.

    :raises InvalidArgument: it is missing or invalid.
    """
    return parsers[name](value, field=name)


def parse_optional(name: str, value: object, parsers: Mapping[str, Parser] = PARSERS) -> Any:
    """
    Return an argument as :func:`parse_argument`; None if it is not given.

    Only ``relative_to`` may not be the text ``None``, because Losant would use the current time.
    """
    is_time = name == "relative_to" and isinstance(value, str) and value.strip() != ""
    return parse_argument(name, value, parsers) if is_time or is_given(value) else None


def check_literals(task: Any, operator: type, parsers: Mapping[str, Parser] = PARSERS) -> None:
    """
    Check the arguments that are in the DAG as they will be when the task runs, while the DAG is parsed.

    :param operator: The class whose constructor has the arguments; a class of a user may have more.
    :raises LosantConfigError: an argument is invalid; the message names it.
    :raises TypeError: the task has neither ``notebook_id`` nor ``notebook_name``, or certainly both.
    """
    _check_notebook(task)
    try:
        for name, default in _arguments(operator):
            if name in parsers:
                _check_literal(task, name, default, parsers[name])
    except InvalidArgument as error:
        from airflow_provider_losant.exceptions import LosantConfigError

        raise LosantConfigError(str(error)) from error


@cache
def _arguments(operator: type) -> Sequence[tuple[str, object]]:
    parameters = signature(operator.__init__).parameters  # type: ignore[misc]  # that of exactly this class
    return [(name, it.default) for name, it in parameters.items()]


def _check_literal(task: Any, name: str, default: object, parser: Parser) -> None:
    value = getattr(task, name)
    if value is default:
        return
    if name in task.template_fields and (is_rendered(value) or not is_given(value)):
        return
    try:
        parser(value, field=name)
    except InvalidArgument as error:
        if is_rendered(value):
            raise InvalidArgument(name, f"{error.problem} (Airflow renders no template here)") from None
        raise


def _check_notebook(task: Any) -> None:
    """Refuse neither, and both unless a template or another task may make nothing of one of them."""
    if not hasattr(task, "notebook_name"):
        return
    given = (task.notebook_id, task.notebook_name)
    if given == (None, None) or all(map(is_certainly_given, given)):
        raise TypeError("Give exactly one of notebook_id and notebook_name")


def is_rendered(value: object) -> bool:
    """Tell whether Airflow may replace an argument, or a part of it, before the task runs."""
    try:
        return _has_template(value)
    except RecursionError:  # Airflow cannot render what contains itself, and the argument's parser refuses it
        return False


def _has_template(value: object) -> bool:
    if isinstance(value, str):
        return _DELIMITER.search(value) is not None
    if isinstance(value, Mapping):
        return any(map(_has_template, (*value, *value.values())))
    if isinstance(value, list | tuple | AbstractSet):
        return any(map(_has_template, value))
    return not (value is None or isinstance(value, int | float | date | timedelta | bytes | PathLike))


def is_certainly_given(value: object) -> bool:
    """Tell whether an argument is given, and not by a template or an XCom that may be empty."""
    if isinstance(value, str):
        return is_given(value) and not is_rendered(value)
    return isinstance(value, date | int | float | Mapping | Sequence)
