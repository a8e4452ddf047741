"""The tables of pages of the documentation, made from what was measured.

    python benchmarks/performance_page.py

Text is written in the document; between ``<!-- table KIND FILE ... -->`` and ``<!-- end -->``
stands what this script makes of benchmarks/results/FILE.json. Kinds: ``machine``, ``steps``,
``terms`` and ``roofline`` (of hff bench), ``peers CASE THREADS`` (of peers/run.py), ``families``,
``liquids`` and ``samples`` (of calibration_conditioning.py).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hff_ase.bench.report import number

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = [ROOT / "docs" / name for name in ("performance.md", "calibration-conditioning.md")]
BLOCK = re.compile(r"(<!-- table (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Replace the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=Path, nargs="+", default=PAGES)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    for page in args.pages:
        page.write_text(filled(page.read_text(), args.results))


def filled(text: str, results: Path) -> str:
    """The document with the tables that the results give; what is missing says so."""

    def replace(block: re.Match[str]) -> str:
        kind, name, *arguments = block[2].split()
        if kind not in KINDS:
            raise SystemExit(f"expected a table of {', '.join(KINDS)}, got {kind!r}")
        path = results / f"{name}.json"
        if path.is_file():
            table = KINDS[kind](json.loads(path.read_text()), *arguments)
        else:
            table = f"*Not measured yet ({name}).*"
        return f"{block[1]}{table}\n{block[3]}"

    return BLOCK.sub(replace, text)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table: the first column to the left, numbers to the right."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def machine(bench: dict[str, Any]) -> str:
    """Where it was measured."""
    hardware, versions, rates = bench["hardware"], bench["versions"], bench["yardsticks"]
    settings = bench.get("settings", {})
    threads = settings.get("threads") or rates.get("threads")
    packages = ", ".join(f"{name} {v}" for name, v in versions.items() if v)
    cpu = f"{hardware['processor']}, {hardware['cores']} cores, {threads} threads"
    return (
        f"{hardware['gpu'] + '; ' if 'gpu' in hardware else ''}{cpu}; matrix products "
        f"{rates['matmul_gflops']:.0f} GFLOP/s and copies {rates['copy_gb_per_s']:.0f} GB/s in the "
        f"same run; {packages}."
    )


def size(row: dict[str, Any]) -> str:
    """Atoms, times copies."""
    return f"{row['atoms']:,}" if row["systems"] == 1 else f"{row['systems']} x {row['atoms']:,}"


def steps(bench: dict[str, Any]) -> str:
    """Times and memory by size."""
    header = ["atoms", "ms/step", "min-max", "+ neighbours", "ns/day", "us/atom", "kB/atom"]
    ensembles = list(bench["rows"][0]["dynamics"])
    header += ["peak MB", "ASE MD / bare call"]
    header += [f"{name}: ms/step, ns/day" for name in ensembles]
    rows = []
    for row in bench["rows"]:
        step, memory, ase = row["step"], row["memory"], row["ase"]
        rows.append(
            [
                size(row),
                number(step["median"]),
                f"{number(step['min'])}-{number(step['max'])}",
                "-" if row["steps_per_rebuild"] is None else number(row["neighbors_ms"]),
                number(row["ns_per_day"]),
                number(row["us_per_atom"]),
                "-" if memory is None else number(1e-3 * row["bytes_per_atom"]),
                "-" if memory is None else number(1e-6 * memory),
                "-" if ase is None else f"{ase['ratio']:.2f}",
                *(
                    f"{number(row['dynamics'][name]['step']['median'])}, "
                    f"{number(row['dynamics'][name]['ns_per_day'])}"
                    for name in ensembles
                ),
            ]
        )
    return markdown(header, rows)


def terms(bench: dict[str, Any]) -> str:
    """What each term adds, ms and share of the step."""
    names = bench["settings"]["terms"]
    rows = []
    for row in bench["rows"]:
        total = row["step"]["min"]
        shares = [f"{number(row['terms'][n])} ({row['terms'][n] / total:.0%})" for n in names]
        rows.append([size(row), *shares, number(row["rebuild_ms"])])
    return markdown(["atoms", *names, "neighbour search"], rows)


def roofline(bench: dict[str, Any]) -> str:
    """What a step could have moved or multiplied at the rates measured beside it."""
    rates = bench["yardsticks"]
    rows = [
        [
            size(row),
            number(row["step"]["median"]),
            number(1e-3 * rates["matmul_gflops"] * row["step"]["median"] / row["n_atoms"] * 1e6),
            number(rates["copy_gb_per_s"] * row["step"]["median"] / row["n_atoms"] * 1e3),
        ]
        for row in bench["rows"]
    ]
    header = ["atoms", "ms/step", "kFLOP per atom in that time", "kB per atom in that time"]
    return markdown(header, rows)


def peers(result: dict[str, Any], case: str, threads: str) -> str:
    """Everyone in one case, and how many times hff_ase's first model they take."""
    cases = {"box": ("box", "small box")}.get(case, (case,))
    lines = [x for x in result["results"] if x["case"] in cases and x["threads"] == int(threads)]
    if not lines:
        return f"*Not measured yet ({case}, {threads} threads).*"
    ours = [x["us_per_atom"] for x in lines if x["peer"] == "hff"]
    rows = []
    for x in sorted(lines, key=lambda x: x["us_per_atom"]):
        kept = x["allocator_tuned"] or x["peer"] == "hff"
        rows.append(
            [
                x["name"] + ("" if kept else ", allocator as shipped"),
                f"{x['systems']} x {x['atoms'] // x['systems']:,}",
                number(x["ms"]),
                f"{number(min(x['times_ms']))}-{number(max(x['times_ms']))}",
                number(x["us_per_atom"]),
                f"{x['us_per_atom'] / ours[0]:.1f}" if ours else "-",
            ]
        )
    header = ["model", "systems x atoms", "ms", "min-max", "us/atom", "times hff_ase"]
    failed = [f"{what}: {why}." for what, why in result["failures"].items()]
    return "\n\n".join([markdown(header, rows), *failed])


def samples(report: dict[str, Any]) -> str:
    """What the targets were averaged over."""
    header = ["liquid", "K", "atoms", "boxes", "samples", "ps in all"]
    rows = [
        [
            one["liquid"],
            f"{one['temperature']:g}",
            str(one["atoms"]),
            str(one["replicas"]),
            str(one["samples"]),
            f"{one['samples'] * one['interval_ps']:.0f}",
        ]
        for one in report["samples"]
    ]
    return markdown(header, rows)


def families(report: dict[str, Any]) -> str:
    """What the targets determine of each set of parameters."""
    header = ["parameters", "number", "largest, least singular value", "effective dimension"]
    header += ["condition", "samples left (%)", "meV/A per chi^2", "scatter of the step (%)"]
    header += ["left out: before, after (mg/cm^3)"]
    rows = []
    for found in report["families"].values():
        first = found[0]
        values, errors = first["singular_values"], first["singular_errors"]
        condition = first["condition_of_informed"]
        left = [100 * min(one["samples_left"].values()) for one in found]
        rows.append(
            [
                first["title"],
                f"{first['n_parameters']:,}",
                f"{values[0]:.1f}({errors[0]:.1f}), {values[-1]:.2f}({errors[-1]:.2f})",
                f"{first['effective_dimension']:.1f}({first['effective_dimension_error']:.1f})",
                number(condition) if condition == condition else "-",
                over_seeds(left, "{:.0f}"),
                over_seeds([1e3 * one["force_rmse_change_per_chi2"] for one in found], "{:+.2f}"),
                over_seeds([100 * one["step_scatter"] for one in found], "{:.0f}"),
                f"{1e3 * first['before_rms']:.0f}, "
                + over_seeds([1e3 * one["transfer_rms"] for one in found], "{:.0f}"),
            ]
        )
    return markdown(header, rows)


def over_seeds(values: list[float], shown: str) -> str:
    """A value, or the range over seeds."""
    low, high = shown.format(min(values)), shown.format(max(values))
    return low if low == high else f"{low} to {high}"


def liquids(report: dict[str, Any]) -> str:
    """Each target, before and fitted to the other liquids."""
    found = {name: rows[0] for name, rows in report["families"].items()}
    first = next(iter(found.values()))
    header = ["target", "measured", "before", *(one["title"] for one in found.values())]
    rows = []
    for k, target in enumerate(first["targets"]):
        after = [one["fitted_to_other_liquids"][k] for one in found.values()]
        rows.append(
            [
                target,
                f"{first['measured'][k]:.4f}",
                f"{first['model'][k]:.3f} +- {first['model_errors'][k]:.3f}",
                *("-" if value is None else f"{value:.3f}" for value in after),
            ]
        )
    return markdown(header, rows)


KINDS: dict[str, Callable[..., str]] = {
    "machine": machine,
    "steps": steps,
    "terms": terms,
    "roofline": roofline,
    "peers": peers,
    "samples": samples,
    "families": families,
    "liquids": liquids,
}

if __name__ == "__main__":
    main()
