"""Densities of an equilibration compared with measured ones, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADINGS = ("state", "density (g/cm3)", "measured", "settled after", "of constant pressure")


def density_table(
    states: Mapping[str, Mapping[str, Any]], measured: Mapping[str, tuple[float, str]]
) -> list[str]:
    """Lines of text: every state with its density and error, or why there is none.

    Args:
        states: `Verdict.as_dict` by state.
        measured: density in g/cm^3 and its source, of some states.
    """
    rows, notes = [list(HEADINGS)], []
    for name, found in states.items():
        value, error = found["density[g/cm^3]"]["value"], found["density[g/cm^3]"]["error"]
        text = "-" if value is None else f"{value:.3f}"
        if error is not None:
            text += f" +- {error:.3f}"
        elif value is not None:
            text += " (no error yet)"
        if not found["settled"]:
            text += " NOT SETTLED"
        known = measured.get(name)
        after = f"{found['after[ps]']:.1f} ps" if found["settled"] else "-"
        other = "-" if known is None else f"{known[0]:.4g}"
        rows.append([name, text, other, after, f"{found['constant_pressure[ps]']:.1f} ps"])
        if known is not None:
            notes.append(f"measured, {name}: {known[1]}")
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in lines] + notes
