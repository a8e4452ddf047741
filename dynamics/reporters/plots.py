"""md.png: a run at a glance, to look at during the run and for the supplement of a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hff_ase.dynamics.config import MDConfig

Columns = Mapping[str, np.ndarray]
PANELS = {
    "temperature[K]": "temperature (K)",
    "density[g/cm^3]": "density (g/cm³)",
    "pressure[bar]": "pressure (bar)",
}
WINDOW = 20  # a running mean is over this part of what is shown
ONE, MEAN, TARGET = "tab:blue", "black", "tab:red"


def plot(path: Path, statistics: Columns, n_atoms: int, config: MDConfig) -> None:
    """Temperature, density, pressure and the drift of the conserved energy over time, as a png.

    Thin lines are what was recorded, thick ones running means; dashed is what was asked for, and
    the window of the averages in summary.yaml is shaded.

    Args:
        path: of the file.
        statistics: columns of the statistics file.
        n_atoms: of the system.
        config: of the run.
    """
    names = [name for name in PANELS if name in statistics]
    figure, axes = _figure(len(names) + 1)
    time = statistics["time[ps]"]
    targets = {"temperature[K]": config.temperature, "pressure[bar]": config.pressure}
    for axis, name in zip(axes, names, strict=False):
        axis.plot(time, statistics[name], lw=0.5, color=ONE, alpha=0.6)
        for inside in _stages(statistics):
            axis.plot(time[inside], running_mean(statistics[name][inside]), lw=1.5, color=MEAN)
        if targets.get(name) is not None:
            axis.axhline(targets[name], ls="--", lw=1, color=TARGET)
        for inside in _stages(statistics):
            late = time[inside][len(time[inside]) // 2 :]
            axis.axvspan(late[0], late[-1], color="0.9", zorder=0)
        axis.set_ylabel(PANELS[name])
    _drift(axes[-1], statistics, n_atoms)
    figure.savefig(path, dpi=130)


def plot_replicas(
    path: Path, groups: Mapping[str, Sequence[Columns]], densities: bool = True
) -> None:
    """Temperatures and densities of replicas: their spread and their mean at each condition.

    Args:
        path: of the file.
        groups: statistics of the replicas of each condition, by its name.
        densities: whether there is a density to show.
    """
    names = ["temperature[K]", *(["density[g/cm^3]"] if densities else [])]
    figure, axes = _figure(len(names))
    for index, (label, members) in enumerate(groups.items()):
        color = f"C{index % 10}"
        for axis, name in zip(axes, names, strict=True):
            least = min(len(one[name]) for one in members)
            if least == 0:
                continue
            time = members[0]["time[ps]"][:least]
            series = np.stack([running_mean(one[name][:least]) for one in members])
            axis.plot(time, series.mean(axis=0), lw=1.5, color=color, label=label)
            low, high = series.min(axis=0), series.max(axis=0)
            axis.fill_between(time, low, high, color=color, alpha=0.2, lw=0)
            axis.set_ylabel(PANELS[name])
    if len(groups) > 1:
        axes[0].legend(loc="best", fontsize="small", ncols=2)
    figure.savefig(path, dpi=130)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Means over a window of a twentieth of the series, shorter at its ends, [n]."""
    half = max(1, len(values) // (2 * WINDOW))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.clip(np.arange(len(values)) - half, 0, None)
    last = np.clip(np.arange(len(values)) + half + 1, None, len(values))
    return np.asarray((sums[last] - sums[first]) / (last - first))


def _figure(panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.2 * panels), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(np.atleast_1d(figure.subplots(panels, 1, sharex=True)))
    axes[-1].set_xlabel("time (ps)")
    return figure, axes


def _stages(statistics: Columns) -> list[np.ndarray]:
    """The rows of each stage."""
    return [statistics["stage"] == stage for stage in np.unique(statistics["stage"])]


def _drift(axis: Any, statistics: Columns, n_atoms: int) -> None:
    for stage, inside in enumerate(_stages(statistics), start=1):
        conserved = statistics["conserved[eV]"][inside]
        if np.isfinite(conserved).all():
            change = 1000 * (conserved - conserved[0]) / n_atoms
            axis.plot(statistics["time[ps]"][inside], change, lw=0.8, label=f"stage {stage}")
    axis.set_ylabel("conserved energy\ndrift (meV/atom)")
    if axis.lines:
        axis.legend(loc="best", fontsize="small")
    else:
        axis.text(0.5, 0.5, "none", transform=axis.transAxes, ha="center")
