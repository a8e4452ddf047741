"""How figures look: the same on the page and in files."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's colours, told apart by all readers (jfly.uni-koeln.de/color, 2008)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#555555")
MEASURED = "#8a8a8a"
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9.5,
    "axes.titleweight": "regular",
    "axes.labelsize": 9.0,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
    "svg.fonttype": "path",
    "svg.hashsalt": "hff_ase",
}


def colour(place: int) -> str:
    """The colour of the line at a place."""
    return COLOURS[place % len(COLOURS)]
