"""Stability and density of a model: NPT at 300 K and NVT at 400 K of some liquids.

    python benchmarks/preview_stability.py run --model electrolyte-preview --only DMC -o stability
    python benchmarks/preview_stability.py report -o stability

Each liquid is a box of 200 to 250 atoms, packed by recipe, relaxed, then 20 ps of NPT at 1 bar
(averaged over the second half) and 5 ps of NVT at 400 K from its end. Runs resume if killed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from hff_ase.allocator import keep_memory
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.rundir import RunFolder

# recipe, measured density in g/cm3 near 298 K and where it is from
LIQUIDS = {
    "DMC": ("DMC", 1.0636, "298 K"),
    "PC": ("PC", 1.2047, "293 K"),
    "EC_DMC": ("EC:DMC 1:1 v/v", 1.199, "ideal mixing of 1.334 (EC, supercooled) and 1.064"),
    "LiPF6_EC_DMC": ("1.0 M LiPF6 in EC:DMC 1:1 v/v", 1.29, "vendors' data sheets, 1.28 to 1.30"),
}


def run(args: argparse.Namespace) -> None:
    """Both runs of the chosen liquids."""
    keep_memory()
    for name in args.only or LIQUIDS:
        cold, hot = args.output / f"{name}-npt300", args.output / f"{name}-nvt400"
        common = {"model": args.model, "timestep": args.timestep, "progress": False}
        if not RunFolder(cold).has_run:
            box = build_box(LIQUIDS[name][0], args.atoms)
            settings = MDConfig(ensemble="npt", time=args.npt, output=str(cold), **common)
            MDRun.start(settings, box).run()
        else:
            MDRun.resume(cold).run()
        if not RunFolder(hot).has_run:
            settings = MDConfig(
                structure=str(cold / "final.extxyz"),
                ensemble="nvt",
                time=args.nvt,
                temperature=400.0,
                minimize=False,
                output=str(hot),
                **common,
            )
            MDRun.start(settings).run()
        else:
            MDRun.resume(hot).run()


def report(args: argparse.Namespace) -> None:
    """A table of what the finished runs gave."""
    print("| liquid | atoms | NPT 300 K | density (g/cm3) | measured | NVT 400 K |")
    print("|---|---|---|---|---|---|")
    for name, (recipe, measured, source) in LIQUIDS.items():
        cells = []
        for kind in ("npt300", "nvt400"):
            path = args.output / f"{name}-{kind}" / "summary.yaml"
            cells.append(yaml.safe_load(path.read_text()) if path.exists() else None)
        cold, hot = cells
        if cold is None:
            print(f"| {recipe} | not finished | | | | |")
            continue
        density = cold["stages"][0]["averages"]["density[g/cm^3]"]
        warm = f"{hot['time[ps]']:g} ps" if hot else "not finished"
        print(
            f"| {recipe} | {cold['atoms']} | {cold['time[ps]']:g} ps | {density['mean']:.3f} +- "
            f"{density['error']:.3f} | {measured} ({source}) | {warm} |"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("run")
    command.add_argument("--model", default="electrolyte-preview")
    command.add_argument("--only", nargs="*", choices=list(LIQUIDS))
    command.add_argument("--atoms", type=int, default=225)
    command.add_argument("--npt", default="20ps")
    command.add_argument("--nvt", default="5ps")
    command.add_argument("--timestep", type=float, default=1.0)
    command.set_defaults(function=run)
    reporter = commands.add_parser("report")
    reporter.set_defaults(function=report)
    for each in (command, reporter):
        each.add_argument("--output", "-o", type=Path, required=True)
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
