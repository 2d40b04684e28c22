# SPDX-License-Identifier: Apache-2.0
"""Readers of reports cause a bounded number of look-ups at Losant, and none blocks the others for long."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from airflow_provider_losant.plugins.lookup_limit import (
    AT_ONCE,
    MINUTE,
    PER_PROCESS,
    PER_USER,
    LookupLimit,
    TooManyLookups,
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def look_up(limit: LookupLimit, user: str) -> None:
    with limit.admit(user):
        pass


def test_a_user_may_cause_so_many_look_ups_in_a_minute_and_others_still_may() -> None:
    clock = Clock()
    limit = LookupLimit(clock)
    for _ in range(PER_USER):
        look_up(limit, "ada")
        clock.now += 1

    with pytest.raises(TooManyLookups) as caught:
        look_up(limit, "ada")

    assert caught.value.retry_after == MINUTE - PER_USER
    look_up(limit, "bob")
    clock.now = 100.0 + MINUTE
    look_up(limit, "ada")


def test_all_users_together_have_a_bound_and_nothing_is_kept_for_longer_than_a_minute() -> None:
    clock = Clock()
    limit = LookupLimit(clock)
    for number in range(PER_PROCESS):
        look_up(limit, f"user {number}")

    with pytest.raises(TooManyLookups):
        look_up(limit, "one more")

    clock.now += MINUTE
    look_up(limit, "one more")
    assert len(limit._latest) == 1


def test_look_ups_at_the_same_time_have_a_bound_also_after_one_has_failed() -> None:
    limit = LookupLimit(Clock())
    with pytest.raises(ZeroDivisionError), limit.admit("x"):
        _ = 1 / 0
    with ExitStack() as stack:
        for number in range(AT_ONCE):
            stack.enter_context(limit.admit(f"user {number}"))

        with pytest.raises(TooManyLookups):
            look_up(limit, "one more")

    look_up(limit, "one more")
