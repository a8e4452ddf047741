"""The table that is printed at the end."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def show(lines: list[dict[str, Any]], failures: dict[str, str]) -> None:
    """Times, and ratios to hff_ase's first model in the same case on as many threads."""
    console = Console(width=130)
    table = Table()
    for column in (
        "case",
        "threads",
        "model",
        "allocator",
        "ms",
        "min-max",
        "us/atom",
        "x hff_ase",
    ):
        table.add_column(column, justify="left" if column in ("case", "model") else "right")
    ours: dict[tuple[str, int], float] = {}
    for line in lines:
        if line["peer"] == "hff":
            ours.setdefault((line["case"], line["threads"]), line["us_per_atom"])
    for line in sorted(lines, key=lambda x: (x["case"], x["threads"], x["us_per_atom"])):
        case = "box" if line["case"] == "small box" else line["case"]
        base = ours.get((case, line["threads"]))
        table.add_row(
            f"{line['case']} ({line['systems']} x {line['atoms'] // line['systems']})",
            str(line["threads"]),
            line["name"],
            "kept" if line["allocator_tuned"] or line["peer"] == "hff" else "default",
            f"{line['ms']:.2f}",
            f"{min(line['times_ms']):.2f}-{max(line['times_ms']):.2f}",
            f"{line['us_per_atom']:.1f}",
            "-" if base is None else f"{line['us_per_atom'] / base:.2f}",
        )
    console.print(table)
    for what, reason in failures.items():
        console.print(f"{what}: {reason}")
