# SPDX-License-Identifier: Apache-2.0
"""Settings of Hypothesis: the same examples on every machine and in every run, so that failures repeat."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

often = settings(
    max_examples=50,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
seldom = settings(often, max_examples=20)
