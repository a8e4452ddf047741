"""How far models of one kind part, on forces and on densities, before and after distillation.

    python benchmarks/ensemble_spread.py --teachers a.hff b.hff c.hff \\
        --students x.hff y.hff z.hff --frames held_out.db --folder spread

Forces: root mean square over all atoms of the spread of their force over the models, as
`Committee` has it, the error of one model and that of their mean; pressures in the same way, by
frame and of the mean over the frames of a liquid. Densities: every model runs all liquids at
constant pressure in one batch (`hff md --replicas`), from the same packed boxes; beside the
standard deviation over the models stands the error of a single run, and the deviation that follows
from their mean pressures on the same frames, those of the first run: d rho = rho kappa_T dP, with
kappa_T = var(V) / (kT <V>) of that run (Allen and Tildesley, Computer Simulation of Liquids,
section 2.5), to first order in what the models differ by and without the noise of separate runs.
`--liquids` without any: no densities. A study that was stopped continues.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.io import read
from ase.units import kB
from performance_page import markdown

from hff_ase.allocator import keep_memory
from hff_ase.calculators.committee import Committee
from hff_ase.data import read_frames
from hff_ase.data.splits import chunks
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.dynamics.replicas.reporter import replica_folder
from hff_ase.dynamics.reporters import read_statistics
from hff_ase.dynamics.reporters.run_folder import STATISTICS, SUMMARY, TRAJECTORY, RunFolder
from hff_ase.units import BAR

ATOMS_AT_ONCE = 4000
DENSITY_COLUMNS = ("density", "spread", "error of one", "from pressures")
FRAMES_OF_A_RUN = 100
LIQUIDS = ("EC", "DMC", "EMC", "ethanol", "1.0 M LiPF6 in EC:DMC 1:1 v/v")


def frame_rows(groups: dict[str, list[Path]], frames: list[Atoms]) -> list[list[str]]:
    """Spread of forces, errors of the models and of their mean, meV/A; spread of pressures, bar.

    What models say of the mean pressure of a liquid, on the same frames, is what moves its
    density, without the noise of a run; root mean square over the liquids.
    """
    labels = np.concatenate([atoms.get_forces() for atoms in frames])
    systems = np.array([atoms.info["system"] for atoms in frames])
    rows = []
    for name, paths in groups.items():
        forces, pressures = evaluated(Committee.load(paths), frames)
        errors = [np.sqrt(np.mean((own - labels) ** 2)) for own in forces]
        mean = np.sqrt(np.mean((np.mean(forces, axis=0) - labels) ** 2))
        spread = np.sqrt(np.mean(np.var(forces, axis=0).sum(-1)))
        of_liquids = [np.var(pressures[:, systems == one].mean(1)) for one in np.unique(systems)]
        cells = [f"{1e3 * value:.1f}" for value in (spread, float(np.mean(errors)), mean)]
        cells += [f"{np.sqrt(np.mean(np.var(pressures, axis=0))):.0f}"]
        cells += [f"{np.sqrt(np.mean(of_liquids)):.0f}"]
        rows.append([name, str(len(paths)), *cells])
    return rows


def evaluated(committee: Committee, frames: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Every model's forces [n_models, n_atoms, 3] and pressures [n_models, n_frames] in bar."""
    forces, pressures = [], []
    for part in chunks(frames, ATOMS_AT_ONCE):
        for members in committee.evaluate_members(part):
            forces.append(np.array([results["forces"] for results in members]))
            pressures.append([-results["stress"][:3].mean() / BAR for results in members])
    return np.concatenate(forces, axis=1), np.array(pressures).T


def densities(
    model: Path, boxes: list[Atoms], folder: Path, times: Sequence[str]
) -> list[tuple[float, float]]:
    """Mean and error of the density of every liquid, g/cm3, over the last of the times."""
    if RunFolder(folder).has_run:
        run = ReplicaRun.resume(folder)
    else:
        settings: dict[str, Any] = {
            "model": str(model),
            "stages": [f"npt:{time}" for time in times],
            "output": str(folder),
            "timestep": 1.0,
            "progress": False,
        }
        run = ReplicaRun.start(ReplicaConfig.load(settings), boxes)
    run.run()
    summary = yaml.safe_load((folder / SUMMARY).read_text())
    found = [entry["averages"]["density[g/cm^3]"] for entry in summary["conditions"]]
    return [(one["mean"], one["error"] or 0.0) for one in found]


def from_pressures(models: list[Path], folder: Path, n_liquids: int) -> np.ndarray:
    """Standard deviations of the densities of some models by liquid, from pressures, g/cm3.

    Args:
        folder: of a run of all liquids, whose frames of the last stage they are evaluated on.
    """
    committee, widths = Committee.load(models), []
    for k in range(n_liquids):
        own = replica_folder(RunFolder(folder), k)
        statistics = read_statistics(own[STATISTICS])
        last = statistics["stage"] == statistics["stage"][-1]  # what was averaged
        volume, kelvin = statistics["volume[A^3]"][last], statistics["temperature[K]"][last]
        compressibility = np.var(volume) / (kB * kelvin.mean() * volume.mean())  # A^3/eV
        begin = statistics["step"][last][0]
        frames = [atoms for atoms in read(own[TRAJECTORY], ":") if atoms.info["step"] >= begin]
        _, pressures = evaluated(committee, frames[:: max(1, len(frames) // FRAMES_OF_A_RUN)])
        width = np.std(pressures.mean(axis=1), ddof=1) * BAR
        density = statistics["density[g/cm^3]"][last].mean()
        widths.append(density * compressibility * width)
    return np.array(widths)


def density_rows(groups: dict[str, list[Path]], args: argparse.Namespace) -> list[list[str]]:
    """Per liquid and group: mean over its models, standard deviation, error of one, and the
    deviation from pressures, g/cm3; root mean squares of the deviations at the end."""
    boxes = [build_box(recipe, args.atoms, seed=5) for recipe in args.liquids]
    times = (args.settle, args.time)
    found = {
        name: [
            densities(path, boxes, args.folder / f"{name}-{k}", times) for k, path in enumerate(own)
        ]
        for name, own in groups.items()
    }
    first = args.folder / f"{next(iter(groups))}-0"
    columns: list[list[str]] = [[*args.liquids, "root mean square"]]
    for name, own in groups.items():
        values, noise = np.moveaxis(np.array(found[name]), -1, 0)  # [n_models, n_liquids]
        widths = [np.std(values, axis=0, ddof=1), np.sqrt(np.mean(noise**2, axis=0))]
        widths.append(from_pressures(own, first, len(args.liquids)))
        columns.append([*(f"{value:.3f}" for value in values.mean(axis=0)), ""])
        columns += [[f"{x:.4f}" for x in (*own, np.sqrt(np.mean(own**2)))] for own in widths]
    return [list(row) for row in zip(*columns, strict=True)]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teachers", type=Path, nargs="+", required=True)
    parser.add_argument("--students", type=Path, nargs="+", required=True)
    parser.add_argument("--frames", type=Path, required=True, help="labelled frames")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("spread"))
    parser.add_argument("--liquids", nargs="*", default=list(LIQUIDS), help="recipes of hff build")
    parser.add_argument("--atoms", type=int, default=120, help="of each box")
    parser.add_argument("--settle", default="5ps", help="before densities are averaged")
    parser.add_argument("--time", default="20ps")
    args = parser.parse_args()
    keep_memory()
    groups = {"teachers": args.teachers, "students": args.students}
    frames = read_frames(args.frames)[:: args.every]
    header = ["", "models", "spread, meV/A", "error of one", "error of their mean"]
    header += ["pressure, bar", "its mean by liquid, bar"]
    print(markdown(header, frame_rows(groups, frames)), "\n", flush=True)
    if args.liquids:
        names = [f"{name}: {what}" for name in groups for what in DENSITY_COLUMNS]
        print(markdown(["liquid", *names], density_rows(groups, args)))


if __name__ == "__main__":
    main()
