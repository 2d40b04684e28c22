# SPDX-License-Identifier: Apache-2.0
"""pytest-xdist obeys ``xdist_group``. Some versions of pytest make it ignore the mark without a word."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("example")
def test_a_group_reaches_the_scheduler(request: pytest.FixtureRequest, worker_id: str) -> None:
    if worker_id == "master":
        pytest.skip("runs in a single process")
    assert request.node.nodeid.endswith("@example")
