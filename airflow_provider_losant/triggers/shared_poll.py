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
from collections.abc import AsyncGenerator, Sequence
from math import inf
from typing import TYPE_CHECKING

from airflow_provider_losant.api.flows import polling
from airflow_provider_losant.api.flows.poll_schedule import Lookout

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.completions import Harvest, News
    from airflow_provider_losant.api.flows.poll_schedule import Onlooker
    from airflow_provider_losant.api.flows.steps import Log
    from airflow_provider_losant.api.flows.wait import Watch
    from airflow_provider_losant.api.http.async_client import AsyncClient

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
    poll = Poll.of(watch, client)
    try:
        while not watch.is_over:
            await poll.news_for(watch, log)
    finally:
        poll.leave(watch)


async def gather(harvest: Harvest, client: AsyncClient, log: Log) -> AsyncGenerator[News, None]:
    """
    Yield a harvest's news for ever, looking together with all others on its notebook.

    :param client: As for :func:`follow`.
    :param log: As for :func:`follow`.
    """
    poll = Poll.of(harvest, client)
    try:
        while True:
            # More may come while who gets it takes their time.
            while batch := harvest.take_news():
                for news in batch:
                    yield news
            await poll.news_for(harvest, log)
    finally:
        poll.leave(harvest)


class Poll:
    """
    The looks at one notebook, and who waits for them.

    The work is in a task of its own, in nobody's context, so that a wait which ends, is cancelled or fails
    takes nothing from the others. News is told in the task of the wait that it is for.
    """

    def __init__(self, client: AsyncClient, key: tuple[str, str], phase: float) -> None:
        self._client = client
        self._key = key
        self._phase = phase
        self._lookout = Lookout(*key)
        # Futures and not events, as there may be thousands.
        self._bells: dict[Onlooker, asyncio.Future[None]] = {}
        self._has_newcomer = asyncio.Event()
        self._work = asyncio.create_task(self._look_out(), context=contextvars.Context())

    @classmethod
    def of(cls, watch: Onlooker, client: AsyncClient) -> Poll:
        """Join the poll that looks at a watch's notebook; begin it if there is none."""
        key = (watch.application_id, watch.notebook_id)
        polls = _polls.setdefault(client, {})
        if key not in polls:
            polls[key] = cls(client, key, (len(polls) + 1) * GOLDEN_RATIO % 1.0)
        poll = polls[key]
        poll.join(watch)
        return poll

    async def news_for(self, watch: Onlooker, log: Log) -> None:
        """Wait until a look brought something for a watch, and tell what is worth a line in its log."""
        bell = self._bells[watch]
        if bell.done():
            bell = self._bells[watch] = asyncio.get_running_loop().create_future()
        if self._work.done():
            self._work.result()  # raises what nobody expected, to all who wait
        await bell
        for note in watch.take_notes():
            log(note.level, "%s", note.text)

    def leave(self, watch: Onlooker) -> None:
        """Look out for a watch no longer; when it was the last one, for none."""
        self._lookout.leave(watch)
        del self._bells[watch]
        if self._work.done() or not self._bells:
            self._close()
            self._work.cancel()

    def join(self, watch: Onlooker) -> None:
        """Look out for a watch as well."""
        self._bells[watch] = asyncio.get_running_loop().create_future()
        # After a restart of the triggerer everything is overdue at once: notebooks take turns within an
        # interval, and the other waits on this one have the time to come.
        turn = 0.0 if watch.is_urgent else self._phase * watch.poll_interval
        self._lookout.join(watch, time.time() + turn)
        self._has_newcomer.set()

    def _close(self) -> None:
        """Let whoever comes now begin anew."""
        polls = _polls.get(self._client, {})
        if polls.get(self._key) is self:
            del polls[self._key]
        if not polls:
            _polls.pop(self._client, None)

    async def _look_out(self) -> None:
        try:
            while True:
                await self._until_due()
                await self._ring(await self._client.run(polling.poll_once(self._lookout), _log.log))
        finally:
            self._close()
            for watch in self._bells:
                self._ring_for(watch)

    async def _ring(self, news: Sequence[Onlooker]) -> None:
        for number, watch in enumerate(news, 1):
            self._ring_for(watch)
            if number % polling.BATCH_SIZE == 0:
                await asyncio.sleep(0)

    def _ring_for(self, watch: Onlooker) -> None:
        bell = self._bells.get(watch)
        if bell is not None and not bell.done():
            bell.set_result(None)

    async def _until_due(self) -> None:
        """Sleep; newcomers may want a look sooner than those who were here."""
        while (pause := self._lookout.pause(time.time())) > 0:
            self._has_newcomer.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause if pause < inf else None):
                    await self._has_newcomer.wait()
