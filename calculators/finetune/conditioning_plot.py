"""One figure of what targets determine about parameters."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from hff_ase.calculators.finetune.conditioning import ALONG, Conditioning
from hff_ase.files import write_whole

SHOWN = 12  # parameters with the largest part in informed directions


def plot_conditioning(report: Conditioning, path: str | Path) -> None:
    """Singular values with errors, what their directions are made of, effective samples."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    values, parts, samples = figure.subplots(1, 3)
    number = np.arange(1, len(report.singular) + 1)
    values.errorbar(number, report.singular, report.singular_error, fmt="o", capsize=3)
    values.axhline(1.0, color="0.6", linewidth=0.8)
    values.set(yscale="log", xlabel="direction", ylabel="singular value", xticks=number)
    values.set_title(f"effective dimension {report.dimension:.1f}")
    _directions(parts, report)
    samples.plot(ALONG, 100.0 * np.array(report.left), "o-")
    samples.set(xlabel="part of a Gauss-Newton step", ylabel="effective samples (%)", ylim=(0, 105))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_whole(Path(path), buffer.getvalue())


def _directions(axes: Any, report: Conditioning) -> None:
    weight = report.singular[:, None] * np.abs(report.vectors)
    shown = np.sort(np.argsort(-weight.max(axis=0))[:SHOWN])
    image = axes.imshow(report.vectors[:, shown].T, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    axes.set_yticks(range(len(shown)), [report.labels[k] for k in shown], fontsize=6)
    axes.set_xticks(range(len(report.singular)), range(1, len(report.singular) + 1))
    axes.set(xlabel="direction", title="parameters in it")
    axes.figure.colorbar(image, ax=axes)
