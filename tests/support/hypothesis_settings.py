# SPDX-License-Identifier: Apache-2.0
"""How hard chance is to try: the same on every machine and each time, so that a red build is red again."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

often = settings(
    max_examples=75,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
seldom = settings(often, max_examples=30)
