"""Line charts as PNG. matplotlib is imported when it is first needed."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike


def line_plot(
    series: Mapping[str, ArrayLike | tuple[ArrayLike, ...]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    size: tuple[float, float] = (6.4, 3.6),
) -> bytes:
    """A line chart as PNG bytes.

    Args:
        series: legend text -> y values, (x values, y values), or (x values, y values, half-width
            of a band around y). Without x values they are 1, 2, ...
        title, x_label, y_label: texts, with units.
        size: width and height in inches of 110 pixels.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for name, values in series.items():
        if isinstance(values, tuple):
            x, y, *band = (np.asarray(part) for part in values)
        else:
            y, band = np.asarray(values), []
            x = np.arange(1, len(y) + 1)
        marker = "o" if len(y) <= 64 else None
        (line,) = axes.plot(x, y, marker=marker, markersize=3.5, label=name)
        for half in band:
            axes.fill_between(x, y - half, y + half, color=line.get_color(), alpha=0.15, lw=0)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    if len(series) > 1:
        axes.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
