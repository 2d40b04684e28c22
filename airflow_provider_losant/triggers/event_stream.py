# SPDX-License-Identifier: Apache-2.0
"""Every execution of a notebook that ends, as an event payload, and the checkpoints of what was delivered."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import AirflowException, event_trigger_has_queue
from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.flows.completions import Checkpoint, CompletionFeed, Progress
from airflow_provider_losant.api.model import ExecutionRef
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.triggers.shared_poll import stream_completions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

PayloadAndProgress = tuple[dict[str, Any] | None, Progress]
"""The payload of an event, None if there is only a checkpoint to store; and the checkpoint's change."""

EVENT_SPACING = 5.0
"""
Seconds between events.

Airflow's scheduler creates one DAG run for all events that it finds at once, and may leave later ones for the
next DAG run. With a pause between them each event gets a DAG run of its own.
"""

MAX_QUEUE = 256
"""Characters of a queue's name in Airflow's database."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """
    Which completions of which notebook a trigger fires for.

    :param losant_conn_id: The Airflow connection.
    :param application_id: The application; None is the connection's.
    :param statuses: Names of the final statuses to fire for.
    :param poll_interval: Seconds between polls.
    :param batch: One event for all executions that are found at once.
    :param context_contains: JSON text of an object that the template context contains; None for any.
    """

    losant_conn_id: str
    application_id: str | None
    notebook_id: str
    statuses: Sequence[str]
    poll_interval: float
    batch: bool = False
    context_contains: str | None = None


def check_queue(queue: object) -> str:
    """
    Return the name of the queue of an event trigger.

    :raises InvalidArgument: it is no name of one queue, or this Airflow has no queues for such triggers.
    """
    # Airflow separates the names after --queues by commas, so other names would match no triggerer.
    if not isinstance(queue, str) or not queue or queue != queue.strip() or "," in queue:
        raise InvalidArgument("queue", f"{queue!r} is not the name of one queue")
    if len(queue) > MAX_QUEUE:
        raise InvalidArgument("queue", f"has more than {MAX_QUEUE} characters")
    if not event_trigger_has_queue():
        raise InvalidArgument("queue", "needs Airflow 3.4 or later, whose event triggers have queues")
    return queue  # since Airflow 3.4


async def completions(
    subscription: Subscription, checkpoint: Checkpoint | None = None
) -> AsyncGenerator[PayloadAndProgress, None]:
    """
    Yield the payloads for a subscription, without end.

    :param checkpoint: What has been delivered already; None begins anew.
    """
    hook = LosantHook(subscription.losant_conn_id, subscription.application_id)
    delivered = None if checkpoint is None else checkpoint.copy()
    problem = ""
    while True:
        try:
            async with aclosing(_completions(subscription, hook, delivered)) as found:
                async for payload, progress in found:
                    yield payload, progress
                    delivered, problem = delivered or Checkpoint(), ""
                    delivered.advance(progress)
                    if payload is not None:
                        await asyncio.sleep(EVENT_SPACING)
        except AirflowException as error:
            # If the trigger failed, Airflow would start it again within a second, without end.
            if problem != (problem := str(error)):
                _log.error("Cannot poll notebook %s: %s", subscription.notebook_id, problem)
            await asyncio.sleep(subscription.poll_interval)


async def _completions(
    subscription: Subscription, hook: LosantHook, checkpoint: Checkpoint | None
) -> AsyncGenerator[PayloadAndProgress, None]:
    def complete(result: dict[str, Any]) -> dict[str, Any]:
        ids = {name: result[name] for name in ("application_id", "notebook_id", "execution_id")}
        return result | {"url": hook.notebook_url(ExecutionRef(**ids))}

    await hook.aload_settings()
    async with await hook.aclient() as client:
        feed = CompletionFeed(
            hook.resolve_application_id(),
            subscription.notebook_id,
            statuses=subscription.statuses,
            poll_interval=subscription.poll_interval,
            now=time.time(),
            checkpoint=checkpoint,
            batch=subscription.batch,
            context_contains=subscription.context_contains,
            complete=complete,
        )
        async with aclosing(stream_completions(feed, client, _log.log)) as found:
            async for delivery in found:
                yield _payload(delivery.results, is_batch=subscription.batch), delivery.progress


def _payload(results: list[dict[str, Any]], *, is_batch: bool) -> dict[str, Any] | None:
    if not results:
        return None
    return {"executions": results} if is_batch else results[0]


def _digests(context_contains: str | None) -> list[str]:
    """Return the part of a key that names a filter, however long that is; none without a filter."""
    if context_contains is None:
        return []
    canonical = json.dumps(json.loads(context_contains), sort_keys=True)
    return [sha256(canonical.encode()).hexdigest()[:16]]


class CheckpointStore:
    """
    The checkpoint of a subscription, stored with the assets that its trigger watches.

    :param subscription: Another subscription to the same notebook for the same asset has its own checkpoint.
    :param stores: The state stores of the assets.
    """

    def __init__(self, subscription: Subscription, stores: Sequence[Any]) -> None:
        self._stores = stores
        parts = (
            subscription.losant_conn_id,
            subscription.application_id or "",
            subscription.notebook_id,
            "+".join(sorted(subscription.statuses)),
            *_digests(subscription.context_contains),
        )
        self._key = f"losant_checkpoint/{'/'.join(parts)}"

    async def load(self) -> Checkpoint | None:
        """Return the stored checkpoint; None if there is none."""
        for store in self._stores:
            stored = await store.aget(self._key)
            try:
                if stored is not None:
                    return Checkpoint.from_json(stored)
            except ValueError as error:
                # If the trigger failed, Airflow would start it again within a second, without end.
                _log.warning("Ignoring a stored value of %s: %s", self._key, error)
        return None

    async def save(self, checkpoint: Checkpoint) -> None:
        """Store the checkpoint with every asset."""
        for store in self._stores:
            await store.aset(self._key, checkpoint.to_json())
