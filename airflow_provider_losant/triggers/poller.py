# SPDX-License-Identifier: Apache-2.0
"""
One poll for all waits of an event loop that watch the same notebook over the same connection.

Losant has no endpoint for a single execution, but one request for a notebook's log answers for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from airflow_provider_losant.api import flows
from airflow_provider_losant.api.lookout import Lookout

if TYPE_CHECKING:
    from airflow_provider_losant.api.async_client import AsyncClient
    from airflow_provider_losant.api.steps import Log
    from airflow_provider_losant.api.watch import Watch

GOLDEN_RATIO = 0.618033988749895
"""Multiples of it fill a circle evenly, however many there are to be."""

_log = logging.getLogger(__name__)
_polls: dict[AsyncClient, dict[tuple[str, str], Poll]] = {}


async def follow(watch: Watch, client: AsyncClient, log: Log) -> None:
    """
    Wait until a watch is over, together with all others on its notebook.

    :param client: Who asks Losant; those who have the same one share the poll.
    :param log: Where news is told: a logger's ``log``.
    """
    target = watch.target
    key = (target.application_id, target.notebook_id)
    polls = _polls.setdefault(client, {})
    if key not in polls:
        # After a restart of the triggerer everything is overdue at once.
        delay = watch.patience.poll_interval * (len(polls) * GOLDEN_RATIO % 1.0)
        polls[key] = Poll(client, Lookout(*key, opens_at=time.time() + delay))
    poll = polls[key]
    try:
        await poll.follow(watch, log)
    finally:
        if poll.is_over and polls.get(key) is poll:
            del polls[key]
            if not polls:
                del _polls[client]
            poll.stop()


class Poll:
    """
    The looks at one notebook, and who waits for them.

    The work is in a task of its own, in nobody's context, so that a wait which ends, is cancelled or fails
    takes nothing from the others. News is told in the task of the wait that it is for.
    """

    def __init__(self, client: AsyncClient, lookout: Lookout) -> None:
        self._client = client
        self._lookout = lookout
        self._bells: dict[Watch, asyncio.Event] = {}
        self._has_newcomer = asyncio.Event()
        self._work = asyncio.create_task(self._look_out(), context=contextvars.Context())

    @property
    def is_over(self) -> bool:
        """Whether nobody waits here any longer, or nobody can."""
        return not self._bells or self._work.done()

    async def follow(self, watch: Watch, log: Log) -> None:
        """Wait until a watch is over."""
        bell = self._bells[watch] = asyncio.Event()
        self._lookout.join(watch)
        self._has_newcomer.set()
        try:
            while watch.ending is None:
                if self._work.done():
                    self._work.result()  # raises what nobody expected, to all who wait
                await bell.wait()
                bell.clear()
                for note in watch.take_notes():
                    log(note.level, "%s", note.text)
        finally:
            self._lookout.leave(watch)
            del self._bells[watch]

    def stop(self) -> None:
        """Look no more."""
        self._work.cancel()

    async def _look_out(self) -> None:
        try:
            while True:
                await self._until_due()
                await self._ring(await self._client.run(flows.look(self._lookout), _log.log))
        finally:
            for bell in self._bells.values():
                bell.set()

    async def _ring(self, news: Sequence[Watch]) -> None:
        for number, watch in enumerate(news, 1):
            if bell := self._bells.get(watch):
                bell.set()
            if number % flows.AT_A_TIME == 0:
                await asyncio.sleep(0)

    async def _until_due(self) -> None:
        """Sleep; newcomers may want a look sooner than those who were here."""
        while (pause := self._lookout.pause(time.time())) > 0:
            self._has_newcomer.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause if pause < inf else None):
                    await self._has_newcomer.wait()
