# SPDX-License-Identifier: Apache-2.0
"""How many look-ups at Losant the readers of reports may cause."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

MINUTE = 60.0
PER_USER = 20
"""Look-ups of one user in a minute."""
PER_PROCESS = 120
"""Look-ups of all users in a minute; Airflow's web server may have several processes."""
AT_ONCE = 4
"""Look-ups that wait for Losant at the same time; each occupies one of the web server's threads."""


class TooManyLookups(Exception):
    """
    The look-up is not allowed now.

    :param retry_after: Seconds after which it may be.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class LookupLimit:
    """
    Bounds the look-ups of a process.

    :param clock: Returns the current time in seconds; never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._active = 0
        self._latest: deque[tuple[float, str]] = deque()

    @contextmanager
    def admit(self, user: str) -> Iterator[None]:
        """
        Count a look-up while the block lasts, and for a minute.

        :param user: Who causes it.
        :raises TooManyLookups: it is one too many.
        """
        with self._lock:
            self._count(user)
            self._active += 1
        try:
            yield
        finally:
            with self._lock:
                self._active -= 1

    def _count(self, user: str) -> None:
        now = self._clock()
        while self._latest and self._latest[0][0] <= now - MINUTE:
            self._latest.popleft()
        own = [at for at, by in self._latest if by == user]
        if len(own) >= PER_USER:
            raise TooManyLookups(own[0] + MINUTE - now)
        if len(self._latest) >= PER_PROCESS:
            raise TooManyLookups(self._latest[0][0] + MINUTE - now)
        if self._active >= AT_ONCE:
            raise TooManyLookups(1.0)
        self._latest.append((now, user))
