"""Figures of the page as SVG, from what properties.json and curves.json hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from hff_ase.dynamics.properties.page import names
from hff_ase.dynamics.properties.page.style import MEASURED, STYLE, colour

WIDTH, HEIGHT = 4.4, 2.9  # inches
Drawing = Callable[[Axes], None]


def drawn(draw: Drawing, width: float = WIDTH, height: float = HEIGHT) -> str:
    """A figure with one pair of axes as an image embedded in the page."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots())
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()


def curve(content: Mapping[str, Any]) -> str:
    """A figure of curves.json: lines with bands of error, spans, or bars."""
    if content["bars"]:
        height = 0.5 + 0.28 * len(content["bars"])
        return drawn(lambda axes: _bars(axes, content), height=height)
    return drawn(lambda axes: _lines(axes, content))


def _lines(axes: Axes, content: Mapping[str, Any]) -> None:
    for place, (name, line) in enumerate(content["lines"].items()):
        x, y = _array(line["x"]), _array(line["y"])
        axes.plot(x, y, color=colour(place), label=name)
        if "error" in line:
            error = _array(line["error"])
            if np.isfinite(error).any():
                low, high = y - error, y + error
                axes.fill_between(x, low, high, color=colour(place), alpha=0.2, lw=0)
        if name in content["marks"]:
            axes.axvspan(*content["marks"][name], color=colour(place), alpha=0.10, lw=0)
    if "x" in content["log"]:
        axes.set_xscale("log")
    if "y" in content["log"]:
        axes.set_yscale("log")
    if content["y"].startswith("g("):
        axes.axhline(1.0, color="0.8", lw=0.7, zorder=0)
    axes.set(xlabel=content["x"], ylabel=content["y"])
    axes.legend(ncols=1 + len(content["lines"]) // 5)


def _bars(axes: Axes, content: Mapping[str, Any]) -> None:
    labels, shares = list(content["bars"]), [100 * one for one in content["bars"].values()]
    places = np.arange(len(labels))[::-1]
    axes.barh(places, shares, 0.66, color=colour(0), alpha=0.85)
    for place, share in zip(places, shares, strict=True):
        axes.text(share, place, f"  {share:.1f}", va="center", fontsize=8)
    axes.set_yticks(places, labels)
    axes.set(xlabel=f"{content['x']} / %", xlim=(0, 1.15 * max(shares, default=1)))
    axes.tick_params(axis="y", length=0)


def convergence(entry: Mapping[str, Any]) -> str:
    """A quantity against the length of the run used, each replica, and the measured value."""
    return drawn(lambda axes: _converging(axes, entry), 3.3, 2.2)


def _converging(axes: Axes, entry: Mapping[str, Any]) -> None:
    own, known = entry["convergence"], entry["experiment"]
    time, value = _array(own["time[ps]"]), _array(own["value"])
    error = _array(own["error"])
    sure = np.isfinite(error)
    axes.plot(time, value, color=colour(0), lw=1.0, alpha=0.6)
    axes.plot(time[~sure], value[~sure], "o", ms=3.5, mfc="white", color=colour(0))
    axes.errorbar(
        time[sure], value[sure], error[sure], fmt="o", ms=3.5, lw=1, capsize=2, color=colour(0)
    )
    if "each_replica" in entry:
        each = _array(entry["each_replica"]["value"])
        each = each[np.isfinite(each)]
        spread = 1.06 + 0.06 * np.linspace(-0.5, 0.5, max(len(each), 2))[: len(each)]
        axes.plot(time[-1] * spread, each, "_", ms=7, color=colour(1), alpha=0.9)
    if known is not None:
        low, high = known["value"] - known["uncertainty"], known["value"] + known["uncertainty"]
        axes.axhspan(low, high, color=MEASURED, alpha=0.25, lw=0)
        axes.axhline(known["value"], color=MEASURED, lw=1.0, ls="--")
    unit = f" / {names.unit(entry['unit'])}" if entry["unit"] else ""
    axes.set(xlabel="time of each replica / ps", ylabel=f"value{unit}", xlim=(0, None))


def _array(values: list[float | None]) -> np.ndarray:
    """Numbers, nan where JSON has null."""
    return np.array([np.nan if one is None else one for one in values], dtype=float)
