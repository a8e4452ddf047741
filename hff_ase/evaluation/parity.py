"""Parity plots: predictions against labels."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import numpy as np

from hff_ase.evaluation.report import Errors
from hff_ase.evaluation.tables import UNITS
from hff_ase.files import write_whole

MANY = 2000  # points; more are drawn as a density


def save_parity(errors: Errors, path: Path, title: str = "") -> None:
    """Write a figure with a panel per property.

    Energies are per atom, less the mean label of their system: what is left is what differs
    between configurations, and an offset of the model shows as one.

    Raises:
        OSError: it cannot be written.
    """
    # The figure is made without pyplot, which would choose a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = errors.properties
    n_columns = min(len(names), 3)
    n_rows = math.ceil(len(names) / max(n_columns, 1))
    figure = Figure(figsize=(3.4 * n_columns, 3.2 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, names, strict=False):
        samples = errors.samples[name]
        offset = errors.system_means(name) if name == "energy" else np.zeros(1)
        factor, unit, digits = UNITS[name]
        given, predicted = factor * (samples.label - offset), factor * (samples.predicted - offset)
        low, high = (
            float(min(given.min(), predicted.min())),
            float(max(given.max(), predicted.max())),
        )
        margin = 0.04 * (high - low) or 1.0
        span = (low - margin, high + margin)
        panel.axline((0.0, 0.0), slope=1.0, color="0.6", linewidth=0.8, zorder=0)
        if len(given) > MANY:
            panel.hexbin(
                given, predicted, gridsize=70, bins="log", mincnt=1, cmap="viridis", linewidths=0,
                extent=(*span, *span),
            )  # fmt: skip
        else:
            panel.plot(given, predicted, ".", markersize=3)
        rmse = factor * errors.rmse(name)
        panel.set_title(f"RMSE {rmse:.{digits}f} {unit}", fontsize="medium")
        panel.set(xlabel=f"label: {name} ({unit})", ylabel="prediction", xlim=span, ylim=span)
        panel.set_aspect("equal")
    if title:
        figure.suptitle(title, fontsize="medium")
    buffer = BytesIO()
    figure.savefig(buffer, dpi=150, format="png")
    write_whole(path, buffer.getvalue())
