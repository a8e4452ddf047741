"""Quantum kinetic energies of a liquid: two estimators, two isotopes, and the harmonic estimate.

    python benchmarks/pimd_estimators.py run --folder estimators --ps 5    # again: continues
    python benchmarks/pimd_estimators.py show --folder estimators

`run` does path integrals of liquid ethanol (or another --recipe) with all hydrogen as H and as D,
from one relaxed and equilibrated box, each in a folder that `hff pimd --resume` would take too.
`show` compares, over the second half,

- the centroid-virial and the primitive estimator of the kinetic energy: one mean within errors;
- the centroid-virial kinetic energy of every element, H against D, with the quantum harmonic
  estimate: modes of one molecule by finite differences of the same model, each with
  hbar w / 4 coth(hbar w / 2 kT), given to elements by the squares of its mass-weighted vector,
  translation and rotation with kT / 2 for each of their six degrees of freedom.

The estimate is also given for as many beads as were run, which the ratio compares with: 32 beads
are 2 to 4 % below the limit for C-H and O-H at 300 K. It knows neither neighbours nor
anharmonicity: a few percent are to be expected. The integrator adds (w dt / 2)^2, 0.5 % for C-H at
0.25 fs. --beads and --temperature of `show` as of `run`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import BFGS, LBFGS
from ase.vibrations import Vibrations

from hff_ase import HybridFF
from hff_ase.allocator import keep_memory
from hff_ase.bench.boxes import large_box
from hff_ase.dynamics.observables.block_average import block_average
from hff_ase.dynamics.pimd import PIMDRun
from hff_ase.dynamics.pimd.config import PIMDConfig
from hff_ase.dynamics.pimd.input_xml import labels
from hff_ase.dynamics.pimd.results import read_properties

DEUTERIUM = 2.014101778
ISOTOPES = {"H": None, "D": DEUTERIUM}
LOWEST = 6  # modes of a molecule that move and turn it


def main() -> None:
    """One of two commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("run", "show"))
    parser.add_argument("--folder", type=Path, default=Path("estimators"))
    parser.add_argument("--model", default="electrolyte")
    parser.add_argument("--recipe", default="ethanol", help="of hff build, such as EC:DMC 1:1 v/v")
    parser.add_argument("--atoms", type=int, default=180)
    parser.add_argument("--beads", type=int, default=32)
    parser.add_argument("--temperature", type=float, default=300.0)
    parser.add_argument("--timestep", type=float, default=0.25)
    parser.add_argument("--ps", type=float, default=5.0)
    parser.add_argument("--relax-ps", type=float, default=5.0, help="classical, before the beads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--isotopes", nargs="+", choices=tuple(ISOTOPES), default=list(ISOTOPES))
    args = parser.parse_args()
    keep_memory()
    if args.command == "run":
        args.folder.mkdir(parents=True, exist_ok=True)
        for isotope in args.isotopes:
            run(isotope, args)
    print(show(args))


def run(isotope: str, args: argparse.Namespace) -> None:
    """Path integrals of one isotope, from the start or from the last checkpoint."""
    folder = args.folder / isotope
    if (folder / "input.xml").exists():
        PIMDRun.open(folder).run()
        return
    box = equilibrated(args)
    if ISOTOPES[isotope] is not None:
        masses = box.get_masses()
        masses[box.numbers == 1] = ISOTOPES[isotope]
        box.set_masses(masses)
    start = args.folder / f"start_{isotope}.extxyz"
    box.set_masses(box.get_masses())
    write(start, box, columns=["symbols", "positions", "masses"])
    settings = {
        "structure": str(start), "model": args.model, "device": args.device, "beads": args.beads,
        "temperature": args.temperature, "time": f"{args.ps}ps", "timestep": args.timestep,
        "statistics_interval": 4, "checkpoint_interval": 200, "output": str(folder),
    }  # fmt: skip
    PIMDRun.create(PIMDConfig.load(settings)).run()


def equilibrated(args: argparse.Namespace) -> Atoms:
    """A box after classical dynamics, the same for every isotope."""
    path = args.folder / "box.extxyz"
    if path.exists():
        found = read(path)
        assert isinstance(found, Atoms)
        return found
    box = large_box(args.recipe, args.atoms)
    box.calc = HybridFF.load(args.model, device=args.device)
    LBFGS(box, logfile=None, maxstep=0.1).run(fmax=0.5, steps=200)
    rng = np.random.default_rng(0)
    MaxwellBoltzmannDistribution(box, temperature_K=args.temperature, rng=rng)
    dynamics = Langevin(
        box,
        args.timestep * units.fs,
        temperature_K=args.temperature,
        friction=0.01 / units.fs,
        fixcm=False,
        rng=rng,
    )
    dynamics.run(round(1000 * args.relax_ps / args.timestep))
    write(path, box, columns=["symbols", "positions"])
    return box


def molecules_of(atoms: Atoms) -> list[Atoms]:
    """One whole molecule of every kind in a box, without a cell."""
    from ase.neighborlist import build_neighbor_list, natural_cutoffs
    from scipy.sparse.csgraph import connected_components

    bonds = build_neighbor_list(atoms, natural_cutoffs(atoms, mult=1.1), self_interaction=False)
    _, which = connected_components(bonds.get_connectivity_matrix())
    found: dict[str, Atoms] = {}
    counts: dict[str, int] = {}
    for index in range(which.max() + 1):
        members = np.flatnonzero(which == index)
        part = atoms[members]
        name = part.get_chemical_formula()
        counts[name] = counts.get(name, 0) + 1
        if name not in found:
            # a chain of nearest images along bonds is more than a small molecule needs
            near = part.get_distances(0, range(len(part)), mic=True, vector=True)
            found[name] = Atoms(part.numbers, near, info={"charge": 0.0})
    for name, molecule in found.items():
        molecule.info["count"] = counts[name]
    return list(found.values())


def harmonic(atoms: Atoms, isotope: str, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Kinetic energy per atom of every element (eV), from the modes of single molecules.

    Two values: of quantum mechanics, and of as many beads as were run.
    """
    kT = units.kB * args.temperature
    energy: dict[str, np.ndarray] = {}
    number: dict[str, int] = {}
    for molecule in molecules_of(atoms):
        count = molecule.info.pop("count")
        molecule.calc = HybridFF.load(args.model, device=args.device, dtype="float64")
        BFGS(molecule, logfile=None).run(fmax=1e-3, steps=500)
        vibrations = Vibrations(molecule, name=str(args.folder / "modes"), delta=0.005)
        vibrations.clean()
        vibrations.run()
        hessian = vibrations.get_vibrations().get_hessian_2d()
        vibrations.clean()
        masses = molecule.get_masses()
        if ISOTOPES[isotope] is not None:
            masses[molecule.numbers == 1] = ISOTOPES[isotope]
        for name, value in shares(hessian, masses, molecule, kT, args.beads).items():
            energy[name] = energy.get(name, np.zeros(2)) + count * value
            number[name] = number.get(name, 0) + count * molecule.get_chemical_symbols().count(name)
    return {name: energy[name] / number[name] for name in energy}


def shares(
    hessian: np.ndarray, masses: np.ndarray, molecule: Atoms, kT: float, beads: int
) -> dict[str, np.ndarray]:
    """Kinetic energy of a molecule's elements: sum of modes, by the weights of their atoms.

    Two values each: hbar w / 4 coth(hbar w / 2 kT), and what P beads have of it,
    kT/2 sum_k w^2 / (w^2 + w_k^2) with hbar w_k = 2 P kT sin(k pi / P).
    """
    hbar = units._hbar / units._e * units.second  # eV in ASE's unit of time
    root = np.repeat(np.sqrt(masses), 3)
    squares, vectors = np.linalg.eigh(hessian / root / root[:, None])
    order = np.argsort(np.abs(squares))
    vectors, quantum = vectors[:, order], hbar * np.sqrt(np.abs(squares[order]))
    high = quantum[LOWEST:, None]
    springs = 2 * beads * kT * np.sin(np.arange(beads) * np.pi / beads)
    kinetic = np.full((len(quantum), 2), kT / 2)
    kinetic[LOWEST:, 0] = (high / 4 / np.tanh(high / (2 * kT)))[:, 0]
    kinetic[LOWEST:, 1] = kT / 2 * (high**2 / (high**2 + springs**2)).sum(axis=1)
    per_atom = ((vectors**2) @ kinetic).reshape(-1, 3, 2).sum(axis=1)
    symbols = np.array(molecule.get_chemical_symbols())
    return {str(name): per_atom[symbols == name].sum(axis=0) for name in np.unique(symbols)}


def show(args: argparse.Namespace) -> str:
    """Both comparisons as markdown; written as results.json too."""
    lines = [
        "| | ps | centroid virial (meV/atom) | primitive | difference / error |",
        "|---" * 5 + "|",
    ]
    found: dict[str, Any] = {}
    for isotope in ISOTOPES:
        folder = args.folder / isotope
        if not (folder / "pimd.properties").exists():
            continue
        start = read(folder / "start.extxyz")
        assert isinstance(start, Atoms)
        columns = read_properties(folder / "pimd.properties")
        late = slice(len(columns["step"]) // 2, None)
        cv, td = (columns[f"kinetic_{n}{{electronvolt}}"][late] / len(start) for n in ("cv", "td"))
        means = [block_average(series) for series in (cv, td)]
        difference, error = block_average(td - cv)
        texts = [f"{1000 * mean:.2f} ± {1000 * e:.2f}" for mean, e in means]
        time = columns["time{picosecond}"][-1]
        lines.append(
            f"| {isotope} | {time:.2f} | {texts[0]} | {texts[1]} | {difference / error:+.1f} |"
        )
        found[isotope] = per_species(columns, start, late) | {"ps": float(time)}
        estimates = harmonic(start, isotope, args)
        found[isotope]["harmonic"] = {name: list(pair) for name, pair in estimates.items()}
    lines += [
        "",
        "| isotope | element | beads (meV/atom) | harmonic, as many beads | harmonic | ratio |",
        "|---" * 6 + "|",
    ]
    for isotope, values in found.items():
        for name, (mean, error) in values["kinetic"].items():
            exact, finite = values["harmonic"]["H" if name == "D" else name]
            cells = [f"{1000 * mean:.2f} ± {1000 * error:.2f}", f"{1000 * finite:.2f}"]
            cells += [f"{1000 * exact:.2f}", f"{mean / finite:.3f}"]
            lines.append(f"| {isotope} | {name} | " + " | ".join(cells) + " |")
    if len(found) == 2:
        ratio = found["H"]["kinetic"]["H"][0] / found["D"]["kinetic"]["D"][0]
        estimate = found["H"]["harmonic"]["H"][1] / found["D"]["harmonic"]["H"][1]
        lines += ["", f"H over D: {ratio:.3f}, harmonic {estimate:.3f}, classical 1"]
    (args.folder / "results.json").write_text(json.dumps(found, indent=1))
    return "\n".join(lines)


def per_species(columns: dict[str, np.ndarray], start: Atoms, late: slice) -> dict[str, Any]:
    """Mean and error of every species' centroid-virial kinetic energy per atom (eV)."""
    names = labels(start)
    kinetic = {}
    for name in sorted(set(names)):
        series = columns[f"kinetic_cv({name}){{electronvolt}}"][late] / names.count(name)
        kinetic[name] = block_average(series)
    return {"kinetic": kinetic}


if __name__ == "__main__":
    main()
