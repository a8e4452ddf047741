"""One figure of a path-integral run, with a classical one for comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hff_ase.dynamics.pimd.comparison import Classical
from hff_ase.dynamics.pimd.rdf import Distributions
from hff_ase.dynamics.pimd.results import Columns

ACROSS = 3  # panels of radial distribution functions in a row


def plot(
    path: Path,
    columns: Columns,
    n_atoms: int,
    classical: Classical | None = None,
    quantum_rdf: Distributions | None = None,
    classical_rdf: Distributions | None = None,
) -> None:
    """Temperature, both estimators of the kinetic energy, density; RDFs below; as a png.

    Args:
        path: of the png.
        columns: i-PI's properties.
        n_atoms: of one bead.
        classical: its density is drawn beside that of the beads.
        quantum_rdf, classical_rdf: of the same pairs.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    density = columns.get("density{g/cm3}")
    series = 2 if density is None else 3
    pairs = [] if quantum_rdf is None else list(quantum_rdf.g)
    rows = -(-len(pairs) // ACROSS)
    figure = Figure(figsize=(8, 2.0 * (series + rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(series + rows, ACROSS)
    axes: list[Any] = []
    for row in range(series):
        axes.append(figure.add_subplot(grid[row, :], sharex=axes[0] if axes else None))
    _series(axes, columns, n_atoms, classical)
    for index, pair in enumerate(pairs):
        panel = figure.add_subplot(grid[series + index // ACROSS, index % ACROSS])
        _rdf(panel, pair, quantum_rdf, classical_rdf)
        if index == 0:
            panel.legend(loc="best", fontsize="small")
    figure.savefig(path, dpi=130)


def _series(axes: list[Any], columns: Columns, n_atoms: int, classical: Classical | None) -> None:
    time = columns["time{picosecond}"]
    axes[0].plot(time, columns["temperature{kelvin}"], lw=0.8)
    axes[0].set_ylabel("temperature (K)")
    for name, label in (("td", "primitive"), ("cv", "centroid virial")):
        energy = 1000 * columns[f"kinetic_{name}{{electronvolt}}"] / n_atoms
        axes[1].plot(time, energy, lw=0.8, label=label)
    axes[1].set_ylabel("kinetic energy\n(meV/atom)")
    axes[1].legend(loc="best", fontsize="small")
    if len(axes) > 2:
        axes[2].plot(time, columns["density{g/cm3}"], lw=0.8, label="beads")
        if classical is not None and classical.density is not None:
            axes[2].plot(classical.time, classical.density, "k--", lw=0.8, label="classical")
            axes[2].legend(loc="best", fontsize="small")
        axes[2].set_ylabel("density (g/cm³)")
    axes[-1].set_xlabel("time (ps)")


def _rdf(
    panel: Any, pair: str, quantum: Distributions | None, classical: Distributions | None
) -> None:
    for found, style, label in ((quantum, "-", "beads"), (classical, "k--", "classical")):
        if found is not None and pair in found.g:
            panel.plot(found.distance, found.g[pair], style, lw=0.9, label=label)
    panel.set_xlabel(f"{pair} distance (Å)")
    panel.set_ylabel("g(r)")
