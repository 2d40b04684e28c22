# SPDX-License-Identifier: Apache-2.0
"""What goes into the bodies of requests: checked here, and in Losant's spelling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypedDict

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.timestamps import format_timestamp

MAX_CONTEXT = 32_767


def execution_options(
    *,
    relative_to: datetime | None = None,
    template_context: str | None = None,
    email: str | None = None,
    callback_url: str | None = None,
) -> dict[str, Any]:
    """Build the body of ``execute``: only what is given, in Losant's spelling."""
    options = {
        "relativeTo": relative_to and format_timestamp(relative_to),
        "templateContext": template_context,
        "email": email,
        "callbackUrl": callback_url,
    }
    return {name: value for name, value in options.items() if value is not None}


class NotebookFields(TypedDict, total=False):
    """
    What can be said of a notebook, in Python's spelling.

    ``image_version`` is what it runs in, such as ``v4``. What ``inputs`` and ``outputs`` are made of is told
    in Losant's `Notebooks: Post <https://docs.losant.com/rest-api/notebooks/#post>`__.
    """

    name: str
    description: str
    image_version: str
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]


def notebook_body(fields: NotebookFields) -> dict[str, Any]:
    """Build the body that makes or changes a notebook: only what is given, in Losant's spelling."""
    return {"imageVersion" if name == "image_version" else name: value for name, value in fields.items()}


def encode_context(value: Mapping[str, Any] | str | None, *, field: str = "template_context") -> str | None:
    """
    Return a template context as the text Losant wants.

    :param value: A mapping, or JSON text (sent as it is).
    :raises InvalidArgument: it is not JSON, or longer than Losant's 32,767 characters.
    """
    if value is None:
        return None
    try:
        if isinstance(value, str):
            text = value
            json.loads(text, parse_constant=_refuse, parse_float=_finite)
        else:
            text = compact_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(field, f"is not JSON: {error}") from None
    if len(text) > MAX_CONTEXT:
        raise InvalidArgument(field, f"is {len(text):,} characters long; Losant takes {MAX_CONTEXT:,}")
    return text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is a number for Python only")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if abs(number) < float("inf") else _refuse(digits)


def compact_json(value: Mapping[str, Any]) -> str:
    """Write JSON in as few characters as it takes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
