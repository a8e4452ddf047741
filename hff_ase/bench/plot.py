"""The figure of a benchmark: cost per atom against size, and the step by term."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hff_ase.bench.report import system
from hff_ase.bench.results import BenchResult


def save_plot(result: BenchResult, path: Path) -> None:
    """Write the figure.

    Raises:
        OSError: it cannot be written.
    """
    # The figure is made without pyplot, which would choose a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    rows = sorted(result.rows, key=lambda row: row.n_atoms)
    sizes = [row.n_atoms for row in rows]
    cost = np.array([row.us_per_atom for row in rows])
    spread = [
        [1e3 * (row.step.median - row.step.min) / row.n_atoms for row in rows],
        [1e3 * (row.step.max - row.step.median) / row.n_atoms for row in rows],
    ]
    left.errorbar(sizes, cost, yerr=spread, fmt="o-", capsize=3)
    left.set_xscale("log")
    left.set_ylim(0.0, 1.3 * cost.max())
    left.set(xlabel="atoms", ylabel="us per atom and MD step")
    base = np.zeros(len(rows))
    parts = {name: [row.terms[name] for row in rows] for name in rows[0].terms}
    parts["neighbours"] = [row.neighbors_ms for row in rows]
    for name, values in parts.items():
        heights = 1e3 * np.array(values) / np.array(sizes)
        right.bar([system(row) for row in rows], heights, bottom=base, label=name)
        base += heights
    right.set(xlabel="atoms", ylabel="us per atom, by term")
    right.set_ylim(0.0, 1.4 * base.max())
    right.legend(fontsize="small", ncols=3, loc="upper center")
    figure.suptitle(f"{result.settings['model']}, {result.settings['device']}", fontsize="medium")
    figure.savefig(path, dpi=150)
