"""The box at the end of a run, for the page's viewer and as a still picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hff_ase.dynamics.properties.page.style import STYLE


def xyz(content: Mapping[str, Any]) -> str:
    """The frame in xyz format."""
    rows = zip(content["symbols"], content["positions"], strict=True)
    lines = [f"{symbol} {x:.2f} {y:.2f} {z:.2f}" for symbol, (x, y, z) in rows]
    return "\n".join([str(len(lines)), "", *lines])


def picture(content: Mapping[str, Any]) -> str:
    """A still picture for readers whose browser draws no molecules, as the source of an image."""
    positions = np.array(content["positions"])
    numbers = np.array([atomic_numbers[symbol] for symbol in content["symbols"]])
    angle = 0.5
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    seen = (positions - positions.mean(axis=0)) @ turn.T
    order = np.argsort(seen[:, 2])
    depth = (seen[order, 2] - seen[:, 2].min()) / max(float(np.ptp(seen[:, 2])), 1e-9)
    fog = 0.45 * (1 - depth)[:, None]
    colours = jmol_colors[numbers[order]] * (1 - fog) + fog
    span = float(np.ptp(seen[:, :2], axis=0).max())
    sizes = (covalent_radii[numbers[order]] * 3.6 * 72 / span * 1.5) ** 2
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4, 4), dpi=110)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        x, y = seen[order, :2].T
        axes.scatter(x, y, s=sizes, c=colours, edgecolors="0.25", linewidths=0.25)
        axes.set_aspect("equal")
        axes.axis("off")
        image = io.BytesIO()
        figure.savefig(image, format="png")
    return "data:image/png;base64," + base64.b64encode(image.getvalue()).decode()
