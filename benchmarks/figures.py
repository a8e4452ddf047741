"""Figures of the documentation that are drawn from the numbers in benchmarks/results.

    python benchmarks/figures.py -o FOLDER

`make docs` draws the same ones while it builds the pages (docs/executed.py).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"


def uncertainty(report: dict[str, Any]) -> Figure:
    """Error against spread inside the domain; mean and largest spread inside and outside of it.

    Args:
        report: what `uncertainty.py` writes; eV/Angstrom.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, marker in (("held out", "o"), ("left out", "s")):
        found = report["bins"][name]
        left.loglog(found["spread"], found["error"], marker, label=name)
    line = np.array([0.003, 1.0])
    left.loglog(line, report["factor"] * line, "k-", lw=0.8, label=f"{report['factor']:.2f} x")
    left.set(xlabel="spread of the force (eV/A)", ylabel="error of the model (eV/A)")
    left.legend()
    for name, frames in report["frames"].items():
        values = np.array(frames)
        outside = name not in report["bins"]
        right.loglog(values[:, 0], values[:, 1], "x" if outside else ".", label=name)
    right.axvline(report["threshold"], color="k", lw=0.8, ls="--")
    right.set(xlabel="mean spread of a frame (eV/A)", ylabel="largest spread (eV/A)")
    right.legend(fontsize=7)
    return figure


def peers(report: dict[str, Any]) -> Figure:
    """Time of a step of each program in the largest box, microseconds per atom.

    Args:
        report: what `peers/run.py` writes.
    """
    rows = [row for row in report["results"] if row["case"] == "box" and row["allocator_tuned"]]
    rows.sort(key=lambda row: -row["us_per_atom"])
    figure = Figure(figsize=(7, 3.0), layout="constrained")
    axes = figure.subplots()
    colors = ["C0" if row["peer"] == "hff" else "0.7" for row in rows]
    bars = axes.barh([r["name"] for r in rows], [r["us_per_atom"] for r in rows], color=colors)
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.set(xscale="log", xlabel="time of a step (us/atom), two threads")
    axes.margins(x=0.1)
    return figure


def conditioning(report: dict[str, Any]) -> Figure:
    """What the same targets determine of several sets of parameters.

    Args:
        report: what `calibration_conditioning.py` writes.
    """
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    values, samples, liquids = figure.subplots(1, 3)
    for k, rows in enumerate(report["families"].values()):
        first, color = rows[0], f"C{k}"
        number = np.arange(1, len(first["singular_values"]) + 1) + 0.06 * k
        values.errorbar(
            number, first["singular_values"], first["singular_errors"], fmt="o-", color=color,
            capsize=2, ms=3, lw=0.8, label=first["title"],
        )  # fmt: skip
        left = first["samples_left"]
        samples.plot([float(x) for x in left], [100.0 * v for v in left.values()], color=color)
        measured = np.array(first["measured"])
        after = np.array([np.nan if v is None else v for v in first["fitted_to_other_liquids"]])
        place = np.arange(len(measured)) + 0.1 * k
        liquids.plot(place, 1e3 * (after - measured), "s", color=color, ms=4)
        if k == 0:
            before = 1e3 * (np.array(first["model"]) - measured)
            liquids.errorbar(
                place - 0.1, before, 1e3 * np.array(first["model_errors"]), fmt="ko", ms=4,
                capsize=2, label="before",
            )  # fmt: skip
            liquids.set_xticks(place, [name.split(",")[0].split()[-1] for name in first["targets"]])
    values.axhline(1.0, color="0.6", lw=0.8)
    values.set(yscale="log", xlabel="direction", ylabel="singular value")
    values.legend(fontsize=6)
    samples.set(xlabel="part of a step", ylabel="effective samples (%)", ylim=(0, 105))
    liquids.axhline(0.0, color="0.6", lw=0.8)
    liquids.set(ylabel="density less measured (mg/cm$^3$)", title="fitted to the other liquids")
    liquids.tick_params(axis="x", rotation=30)
    liquids.legend(fontsize=6)
    return figure


FIGURES: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "uncertainty": uncertainty,
    "peers": peers,
    "conditioning": conditioning,
}


def draw(name: str, path: Path, results: Path = RESULTS) -> None:
    """Write the figure made of ``results/<name>.json``; its kind is that of the path's suffix."""
    report = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
    FIGURES[name](report).savefig(path, dpi=150)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", "-o", type=Path, default=Path("figures"), help="folder")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        draw(name, args.output / f"{name}.png", args.results)


if __name__ == "__main__":
    main()
