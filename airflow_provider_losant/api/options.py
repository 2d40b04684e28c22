# SPDX-License-Identifier: Apache-2.0
"""The options of an execution or an export, as Losant wants them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.instants import spell

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
        "relativeTo": relative_to and spell(relative_to),
        "templateContext": template_context,
        "email": email,
        "callbackUrl": callback_url,
    }
    return {name: value for name, value in options.items() if value is not None}


def context_text(value: Mapping[str, Any] | str | None, *, field: str = "template_context") -> str | None:
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
            json.loads(text, parse_constant=_refuse)
        else:
            text = compact(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(field, f"is not JSON: {error}") from None
    if len(text) > MAX_CONTEXT:
        raise InvalidArgument(field, f"is {len(text):,} characters long; Losant takes {MAX_CONTEXT:,}")
    return text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is a number for Python only")


def compact(value: Mapping[str, Any]) -> str:
    """Write JSON in as few characters as it takes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
