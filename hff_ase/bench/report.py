"""A benchmark as text: tables for the terminal, JSON for everything else."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table

from hff_ase.bench.results import BenchResult, Row


def as_json(result: BenchResult) -> str:
    """Everything, indented."""
    return json.dumps(result.as_dict(), indent=1) + "\n"


def tables(result: BenchResult) -> list[RenderableType]:
    """The printed tables: the machine, times and memory, times by term."""
    parts: list[RenderableType] = [_title(result), _times(result), _terms(result)]
    if any(row.dynamics or row.ase for row in result.rows):
        parts.append(_dynamics(result))
    return [*parts, _footer(result)]


def as_text(result: BenchResult, width: int = 110) -> str:
    """The tables as plain text."""
    out = StringIO()
    console = Console(file=out, width=width, color_system=None)
    for table in tables(result):
        console.print(table)
    return out.getvalue()


def number(value: float | None) -> str:
    """Two or three significant digits, with thousands separators; a dash for missing values."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def system(row: Row) -> str:
    """Atoms, times copies."""
    return f"{row.atoms:,}" if row.systems == 1 else f"{row.systems:,} x {row.atoms:,}"


def _title(result: BenchResult) -> str:
    s, h = result.settings, result.hardware
    place = h.get("gpu") if s["device"] != "cpu" else f"{h['processor']}, {s['threads']} threads"
    backend = s["backend"] or "reference"
    what = "energy, forces and stress" if s["stress"] else "energy and forces"
    return f"{s['model']} ({s['dtype']}, kernels: {backend}) on {place}: {what}"


def _times(result: BenchResult) -> Table:
    table = _table("")
    columns = ["atoms", "ms/step", "min-max", "search", "ns/day", "us/atom", "kB/atom", "MB"]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in result.rows:
        memory = (row.bytes_per_atom, row.memory)
        cells = [
            system(row),
            number(row.step.median),
            f"{number(row.step.min)}-{number(row.step.max)}",
            "-" if row.steps_per_rebuild is None else number(row.neighbors_ms),
            number(row.ns_per_day),
            number(row.us_per_atom),
            *(number(None if value is None else scale * value)
              for value, scale in zip(memory, (1e-3, 1e-6), strict=True)),
        ]  # fmt: skip
        table.add_row(*cells)
    return table


def _dynamics(result: BenchResult) -> Table:
    table = _table("whole MD, with the searches that it did; ASE: velocity Verlet / force calls")
    ensembles = list(result.rows[0].dynamics)
    columns = ["atoms"]
    for name in ensembles:
        columns += [f"{name} ms", "ns/day", "searches"]
    for column in (*columns, "ASE"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in result.rows:
        cells = [system(row)]
        for name in ensembles:
            times = row.dynamics[name]
            cells += [number(times.step.median), number(times.ns_per_day(row.timestep))]
            cells.append(f"{times.rebuilds}/{times.steps}")
        table.add_row(*cells, "-" if row.ase is None else f"{row.ase.ratio:.2f}")
    return table


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )


def _terms(result: BenchResult) -> Table:
    table = _table("ms that each term adds to a step")
    names = result.settings["terms"]
    for column in ("atoms", *names, "a search"):
        table.add_column(column, justify="right")
    for row in result.rows:
        shares: list[Any] = [number(row.terms[name]) for name in names]
        table.add_row(system(row), *shares, number(row.rebuild_ms))
    return table


def _footer(result: BenchResult) -> str:
    rates = result.yardsticks
    lines = [
        f"This machine, now: matrix products {rates['matmul_gflops']:.0f} GFLOP/s, copies "
        f"{rates['copy_gb_per_s']:.0f} GB/s."
    ]
    count, timestep = result.rebuilds, result.settings["timestep"]
    if count is None:
        lines.append("Neighbour searches were not counted: times are without them.")
    else:
        lines.append(
            f"Neighbours: searched every {count.interval:.0f} steps of {timestep:g} fs (counted in "
            f"{count.steps} steps of {count.atoms:,} atoms at {count.temperature:.0f} K, skin "
            f"{result.settings['skin']:g} A); search: ms of each step, part of ns/day and us/atom."
        )
    return "\n".join(lines)
