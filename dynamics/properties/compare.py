"""Many analyses compared with experiment: a table, and one parity plot for each quantity."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hff_ase.dynamics.properties.table import read_properties
from hff_ase.dynamics.reporters.growing_file import write_atomically
from hff_ase.errors import ConfigError

__all__ = ["Comparison", "Row", "compare", "parity_plot"]

COMPARED = (
    "density",
    "viscosity",
    "conductivity",
    "permittivity",
    "heat_of_vaporisation",
    "transference_number",
    "thermodynamic_factor",
)


@dataclass(frozen=True)
class Row:
    """One number next to the measured one.

    Attributes:
        run, state: where it is from.
        quantity: its name.
        value, error: computed.
        measured, uncertainty: from experiment, in the same unit.
        unit: of both.
        source: of the measured value.
    """

    run: str
    state: str
    quantity: str
    value: float
    error: float
    measured: float
    uncertainty: float
    unit: str
    source: str

    @property
    def deviation(self) -> float:
        """Computed over measured, less one."""
        return self.value / self.measured - 1.0

    @property
    def sigmas(self) -> float:
        """The difference over its error, that of both together."""
        error = math.hypot(self.error, self.uncertainty)
        return (self.value - self.measured) / error if error > 0 else math.inf


@dataclass(frozen=True)
class Comparison:
    """What can be compared, and what cannot.

    Attributes:
        rows: numbers with a measured one.
        missing: lines on what was asked for and has none.
    """

    rows: tuple[Row, ...]
    missing: tuple[str, ...]


def compare(folders: Sequence[str | Path], quantities: Sequence[str] = ()) -> Comparison:
    """Numbers of several runs compared with experiment.

    Args:
        folders: with properties.json.
        quantities: names, or first parts of names, such as ``transference_number``; empty for all
            that have a measured value.

    Raises:
        ConfigError: no folders, or one without properties.json.
    """
    if not folders:
        raise ConfigError("expected folders with properties.json, got none")
    rows, missing = [], []
    wanted = tuple(quantities) or COMPARED
    for folder in folders:
        for state in read_properties(folder)["states"]:
            for name in wanted:
                own = {
                    key: one
                    for key, one in state["quantities"].items()
                    if key == name or key.startswith(f"{name}/")
                }
                found = [key for key, one in own.items() if one["experiment"] is not None]
                where = f"{folder}: {state['name']}: {name}"
                if not found:
                    if own or quantities:
                        missing.append(f"{where}: {'no measured value' if own else 'not analysed'}")
                    continue
                for key in found:
                    one = own[key]
                    if one["value"] is None:
                        missing.append(f"{where}: {one['verdict']}")
                    else:
                        rows.append(_row(str(folder), state["name"], key, one))
    return Comparison(tuple(rows), tuple(missing))


def _row(run: str, state: str, name: str, entry: Mapping[str, Any]) -> Row:
    known = entry["experiment"]
    numbers = (entry["value"], entry["error"], known["value"], known["uncertainty"])
    return Row(run, state, name, *numbers, entry["unit"], known["source"])


def table(comparison: Comparison) -> list[str]:
    """Lines of text."""
    if not comparison.rows:
        return ["nothing here has a measured value to compare with", *comparison.missing]
    rows = [("state", "quantity", "computed", "measured", "unit", "deviation", "errors")]
    for one in comparison.rows:
        digits = max(0, 1 - math.floor(math.log10(max(one.error, 1e-12))))
        rows.append(
            (
                one.state,
                one.quantity,
                f"{one.value:.{digits}f} +- {one.error:.{digits}f}",
                f"{one.measured:.{digits}f} +- {one.uncertainty:.{digits}f}",
                one.unit,
                f"{100 * one.deviation:+.1f} %",
                f"{one.sigmas:+.1f}",
            )
        )
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    told = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    sources = dict.fromkeys(f"{one.quantity}: {one.source}" for one in comparison.rows)
    return [*told, *(f"source of {line}" for line in sources), *comparison.missing]


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """As a dict for JSON."""
    rows = [
        {**vars(one), "deviation": one.deviation, "sigmas": one.sigmas} for one in comparison.rows
    ]
    return {"rows": rows, "missing": list(comparison.missing)}


def parity_plot(comparison: Comparison, path: Path) -> None:
    """Computed against measured, a panel for each quantity.

    Args:
        comparison: what to draw.
        path: a .png, .svg or .pdf file.

    Raises:
        ConfigError: nothing to draw, or another suffix.
        WriteError: it cannot be written.
    """
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"expected a plot that ends in .png, .svg or .pdf, got {path}")
    if not comparison.rows:
        raise ConfigError("expected numbers with a measured value to plot, got none")
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from hff_ase.dynamics.properties.page.style import STYLE, colour

    names = list(dict.fromkeys(one.quantity for one in comparison.rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(names), 3.3), layout="constrained")
        FigureCanvasAgg(figure)
        for place, (name, axes) in enumerate(
            zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True)
        ):
            own = [one for one in comparison.rows if one.quantity == name]
            x, y = [one.measured for one in own], [one.value for one in own]
            dx, dy = [one.uncertainty for one in own], [one.error for one in own]
            axes.errorbar(x, y, dy, dx, fmt="o", color=colour(place), ms=4.5, lw=1, capsize=2)
            both = [*x, *y]
            pad = 0.06 * (max(both) - min(both) or abs(max(both)) or 1.0)
            ends = (min(both) - pad, max(both) + pad)
            axes.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
            axes.set(xlim=ends, ylim=ends, aspect="equal", title=name.replace("_", " "))
            unit = f" / {own[0].unit}" if own[0].unit else ""
            axes.set(xlabel=f"measured{unit}", ylabel=f"computed{unit}")
        content = io.BytesIO()
        figure.savefig(content, format=path.suffix[1:])
    write_atomically(path, content.getvalue())
