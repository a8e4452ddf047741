"""Which time step is safe: drift, density, temperatures, diffusion and speed, against 0.5 fs.

    python benchmarks/time_steps.py run --ps 100 --folder runs --device cuda
    python benchmarks/time_steps.py run --ps 100 --folder runs --only "2 fs" --only "2/0.5 fs"
    python benchmarks/time_steps.py table --folder runs

`run` builds a box, relaxes it at 0.5 fs, and takes it through every scheme: constant pressure, then
constant energy, ``--ps`` each. A run that was stopped is resumed; finished ones are kept.
`table` writes what is there between the markers of docs/time_steps.md.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms, units
from ase.io import iread, read, write
from performance_page import markdown

from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.config import MDConfig
from hff_ase.dynamics.md import MDRun
from hff_ase.dynamics.reporters import read_statistics
from hff_ase.dynamics.reporters.run_folder import CHECKPOINT, STATISTICS, TRAJECTORY
from hff_ase.errors import SimulationError, StoppedError

PAGE = Path(__file__).parents[1] / "docs" / "time_steps.md"
BEGIN, END = "<!-- table -->\n", "<!-- end -->"
RECIPE = "1.0 M LiPF6 in EC:DMC 1:1 v/v"
HEAVY = 3.0  # amu
ROWS, FRAMES = 4.0, 20.0  # fs between rows of statistics and between frames
FAILURE = "failure.txt"  # in the folder of a run that cannot be taken to its end


@dataclass(frozen=True)
class Scheme:
    """A way to take time steps; ``inner`` steps per ``timestep`` (fs)."""

    timestep: float
    hydrogen_mass: float | None = None
    inner: int = 1

    @property
    def name(self) -> str:
        """As the table and ``--only`` have it."""
        inner = f"/{self.timestep / self.inner:g}" if self.inner > 1 else ""
        mass = ", H 3 amu" if self.hydrogen_mass else ""
        return f"{self.timestep:g}{inner} fs{mass}"

    @property
    def folder(self) -> str:
        """Of its run."""
        return self.name.replace(" ", "").replace("/", "-").replace(",", "-")


SCHEMES = [
    *(Scheme(timestep) for timestep in (0.5, 1.0, 2.0)),
    *(Scheme(timestep, HEAVY) for timestep in (1.0, 2.0, 3.0, 4.0)),
    *(Scheme(timestep, mass, 4) for mass in (None, HEAVY) for timestep in (2.0, 4.0)),
]


def run(args: argparse.Namespace) -> None:
    """Every scheme that is asked for, one after another."""
    known = [scheme.name for scheme in SCHEMES]
    unknown = [name for name in args.only if name not in known]
    if unknown:
        raise SystemExit(f"expected schemes among {known}, got {unknown[0]!r}")
    args.folder.mkdir(parents=True, exist_ok=True)
    start = relaxed(args)
    for scheme in SCHEMES:
        if args.only and scheme.name not in args.only:
            continue
        folder = args.folder / scheme.folder
        if (folder / FAILURE).is_file():
            continue
        inner = split_of(args) if scheme.inner > 1 else {}
        options = {
            "structure": str(start),
            "stages": [f"npt:{args.ps}ps", f"nve:{args.ps}ps"],
            "minimize": False,
            "timestep": scheme.timestep,
            "hydrogen_mass": scheme.hydrogen_mass,
            "inner_steps": scheme.inner,
            "statistics_interval": max(1, round(ROWS / scheme.timestep)),
            "trajectory_interval": max(1, round(FRAMES / scheme.timestep)),
            "seed": 1,
            **inner,
        }
        print(f"{scheme.name} in {folder}", flush=True)
        try:
            finish(folder, args, options)
        except StoppedError:
            raise
        except SimulationError as error:
            (folder / FAILURE).write_text(str(error))
            print(error, flush=True)


def relaxed(args: argparse.Namespace) -> Path:
    """The file that all schemes start from: relaxed at 300 K and 1 bar."""
    box, start = args.folder / "box.extxyz", args.folder / "start.extxyz"
    if start.is_file():
        return start
    if not box.is_file():
        write(box, build_box(RECIPE, args.atoms, seed=0))
    options = {"structure": str(box), "timestep": 0.5, "trajectory_interval": 1000}
    options["stages"] = [f"nvt:{args.relax / 2}ps", f"npt:{args.relax / 2}ps"]
    finish(args.folder / "relax", args, options)
    write(start, read(args.folder / "relax" / "final.extxyz"))
    return start


def split_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the inner steps are taken with."""
    if args.inner_model:
        return {"inner_model": args.inner_model}
    return {"inner_without": args.inner_without.split(",")}


def finish(folder: Path, args: argparse.Namespace, options: dict[str, Any]) -> None:
    """A run from its start, or from where it was stopped, to its end."""
    if (folder / CHECKPOINT).is_file():
        MDRun.resume(folder).run()
        return
    config = MDConfig(
        output=str(folder),
        model=args.model,
        device=args.device,
        temperature=300.0,
        progress=False,
        plot=False,
        **options,
    )
    MDRun.start(config, force=folder.exists()).run()


def measured(folder: Path) -> dict[str, Any]:
    """The numbers of a finished run; constant pressure first, then constant energy.

    Drift and wander (RMS about the straight line) are of the conserved energy, meV/atom/ps and
    meV/atom; temperatures are of elements at constant energy, K; diffusion 1e-5 cm^2/s.
    """
    summary = yaml.safe_load((folder / "summary.yaml").read_text())
    statistics = read_statistics(folder / STATISTICS)
    inside = statistics["stage"] == 2
    time, energy = statistics["time[ps]"][inside], statistics["conserved[eV]"][inside]
    slope, offset = np.polyfit(time, energy, 1)
    frames = [f for f in iread(folder / TRAJECTORY, ":") if f.info["time_ps"] >= time[0]]
    n_atoms = summary["atoms"]
    return {
        "drift": 1e3 * slope / n_atoms,
        "wander": 1e3 * float(np.std(energy - slope * time - offset)) / n_atoms,
        "density": summary["stages"][0]["averages"]["density[g/cm^3]"],
        "temperature": summary["stages"][0]["averages"]["temperature[K]"],
        "elements": temperatures(frames),
        "diffusion": {
            name: diffusion(frames, name)
            for name in ("Li", "EC", "DMC")
            if members(frames[0], name)
        },
        "speed": summary["speed[ns/day]"],
    }


def temperatures(frames: list[Atoms]) -> dict[str, float]:
    """Mean kinetic temperature of hydrogen, lithium and the rest, K."""
    symbols, masses = np.array(list(frames[0].symbols)), frames[0].get_masses()[:, None]
    kinetic = np.mean([(f.get_momenta() ** 2 / masses).sum(1) for f in frames], axis=0)
    groups = {"H": symbols == "H", "Li": symbols == "Li"}
    groups["rest"] = ~(groups["H"] | groups["Li"])
    # a total momentum of zero takes three momenta from all atoms together, each by its mass
    share = 3.0 * (1.0 - masses[:, 0] / masses.sum())
    return {k: float(kinetic[g].sum() / share[g].sum() / units.kB) for k, g in groups.items()}


def members(atoms: Atoms, name: str) -> list[np.ndarray]:
    """Atoms of each molecule of this name: lithium, or a carbonate by its formula."""
    formula = {"EC": "C3H4O3", "DMC": "C3H6O3"}.get(name, name)
    parts = [
        np.flatnonzero(atoms.arrays["molecule"] == k) for k in np.unique(atoms.arrays["molecule"])
    ]
    return [part for part in parts if atoms[part].get_chemical_formula() == formula]


def diffusion(frames: list[Atoms], name: str) -> tuple[float, float]:
    """Self-diffusion coefficient of one kind of molecule and its standard error, 1e-5 cm^2/s.

    The slope of the mean squared displacement over lags from a tenth to a half of the run; the
    error is that of the mean over molecules, as if each were independent.
    """
    masses = frames[0].get_masses()
    parts = members(frames[0], name)
    paths = np.array(
        [[np.average(f.positions[p], axis=0, weights=masses[p]) for p in parts] for f in frames]
    )
    lags = np.unique(np.linspace(max(1, len(frames) // 10), len(frames) // 2, 20).astype(int))
    if len(lags) < 3:
        return float("nan"), float("nan")
    step = frames[1].info["time_ps"] - frames[0].info["time_ps"]
    squared = [np.square(paths[lag:] - paths[:-lag]).sum(-1).mean(0) for lag in lags]
    slopes = np.polyfit(lags * step, np.array(squared), 1)[0] / 6.0  # A^2/ps per molecule
    error = slopes.std(ddof=1) / np.sqrt(len(slopes)) if len(slopes) > 1 else np.nan
    return float(10.0 * slopes.mean()), float(10.0 * error)


def table(args: argparse.Namespace) -> None:
    """Write the table between the markers of the page."""
    header = [
        "time step", "drift (meV/atom/ps)", "wander (meV/atom)", "density (g/cm3)",
        "T (K)", "T of H, Li, rest at constant energy (K)", "D of Li, EC, DMC (1e-5 cm2/s)",
        "ns/day",
    ]  # fmt: skip
    rows, results = [], {}
    for scheme in SCHEMES:
        folder = args.folder / scheme.folder
        if (folder / "summary.yaml").is_file():
            results[scheme.name] = measured(folder)
            rows.append([scheme.name, *cells(results[scheme.name])])
        else:
            failed = (folder / FAILURE).is_file()
            what = (folder / FAILURE).read_text().split(";")[0] if failed else "not run yet"
            rows.append([scheme.name, what, *[""] * (len(header) - 2)])
    (args.folder / "time_steps.json").write_text(json.dumps(results, indent=1))
    text = args.page.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    args.page.write_text(f"{before}{BEGIN}{markdown(header, rows)}\n{END}{after}")


def cells(found: dict[str, Any]) -> list[str]:
    """A row of the table."""

    def mean(entry: dict[str, Any], digits: int) -> str:
        error = entry["error"]
        tail = "" if error is None else f" ± {error:.{digits}f}"
        return f"{entry['mean']:.{digits}f}{tail}"

    return [
        f"{found['drift']:.2g}",
        f"{found['wander']:.2g}",
        mean(found["density"], 3),
        mean(found["temperature"], 1),
        ", ".join(f"{value:.0f}" for value in found["elements"].values()),
        ", ".join(f"{d:.2f} ± {error:.2f}" for d, error in found["diffusion"].values()),
        f"{found['speed']:.3g}",
    ]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run")
    runs.set_defaults(function=run)
    runs.add_argument("--ps", type=float, default=50.0, help="of each stage of each scheme")
    runs.add_argument("--relax", type=float, default=20.0, help="ps before all of them")
    runs.add_argument("--atoms", type=int, default=200)
    runs.add_argument("--model", default="electrolyte")
    runs.add_argument("--device", default="cpu")
    runs.add_argument("--only", action="append", default=[], help="a scheme; may be given again")
    runs.add_argument("--inner-model", help="a cheap model for the inner steps")
    runs.add_argument("--inner-without", default="coulomb,dispersion", help="or terms to leave out")
    tables = commands.add_parser("table")
    tables.set_defaults(function=table)
    tables.add_argument("--page", type=Path, default=PAGE)
    for command in (runs, tables):
        command.add_argument("--folder", type=Path, default=Path("time_steps"))
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
