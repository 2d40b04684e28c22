# SPDX-License-Identifier: Apache-2.0
"""Draw CPU time and requests over the number of waits, one line for each provider."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.benchmarks.records import BARE, LOSANT, Case

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.report import Measured

SIZE = 9.0, 3.6
"""Inches."""
QUANTITIES = {"CPU seconds": "cpu", "Requests": "requests"}


def draw(measured: Measured, file: Path) -> None:
    """
    Draw the figures of all waits.

    :param file: The SVG file.
    """
    lines: dict[str, list[tuple[int, Any]]] = {}
    for case, figures in measured:
        lines.setdefault(name(case), []).append((case.waits, figures))
    # The same figures make the same file.
    with mpl.rc_context({"svg.hashsalt": "waits", "svg.fonttype": "none"}):
        drawing = Figure(figsize=SIZE, layout="constrained")
        panes = drawing.subplots(1, len(QUANTITIES))
        for pane, (title, field) in zip(panes, QUANTITIES.items(), strict=True):
            for label, points in lines.items():
                numbers, found = zip(*points, strict=True)
                pane.plot(numbers, [getattr(it, field) for it in found], marker="o", label=label)
            pane.set(title=title, xlabel="waits", xscale="log", yscale="log")
            pane.grid(visible=True, alpha=0.3)
        panes[0].legend(fontsize="small")
        content = StringIO()
        drawing.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    file.write_text("\n".join(line.rstrip() for line in content.getvalue().splitlines()) + "\n")


def name(case: Case) -> str:
    """Return the name of a line."""
    if case.provider == LOSANT:
        return f"{LOSANT}, {'one notebook each' if case.is_spread else 'one notebook'}"
    return f"{BARE}, one notebook each" if case.provider == BARE else case.provider
