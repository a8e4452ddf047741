"""Trajectories of known answer: ions and solvent that walk at random in a periodic box."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

EDGE, STEP, INTERVAL = 20.0, 0.3, 0.5  # Angstrom; Angstrom per frame and direction; ps
N_EACH = {"Li": 12, "Cl": 12, "Ar": 40}
DIFFUSION = STEP**2 / (2 * INTERVAL) * 10.0  # 1e-9 m^2/s


def walk(n_frames: int = 1500, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Symbols, and positions [n_frames, n_atoms, 3] that are not wrapped."""
    rng = np.random.default_rng(seed)
    symbols = [kind for kind, n in N_EACH.items() for _ in range(n)]
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    start = (grid[: len(symbols)] + 0.5) * EDGE / 5
    steps = rng.normal(0, STEP, (n_frames, len(symbols), 3))
    steps[0] = 0
    return symbols, start + np.cumsum(steps, axis=0)


def frames(n_frames: int = 1500, seed: int = 0, breathing: float = 0.0) -> list[Atoms]:
    """The walk as frames with wrapped positions and times; the cell may breathe."""
    symbols, positions = walk(n_frames, seed)
    found = []
    for k, now in enumerate(positions):
        edge = EDGE * (1 + breathing * np.sin(0.3 * k))
        atoms = Atoms(symbols, now * edge / EDGE, cell=[edge] * 3, pbc=True)
        atoms.wrap()
        atoms.info["time_ps"] = k * INTERVAL
        found.append(atoms)
    return found


def write_walk(path: Path, n_frames: int = 1500, seed: int = 0, breathing: float = 0.0) -> Path:
    """An extended xyz file of it."""
    write(path, frames(n_frames, seed, breathing), format="extxyz")
    return path


def write_xtc(folder: Path, n_frames: int = 1500) -> tuple[Path, Path]:
    """The walk as trajectory.xtc with a topology that has elements (needs MDAnalysis)."""
    import MDAnalysis

    symbols, positions = walk(n_frames)
    n = len(symbols)
    warnings.filterwarnings("ignore", module="MDAnalysis")
    universe = MDAnalysis.Universe.empty(n, n, atom_resindex=np.arange(n), trajectory=True)
    for name in ("names", "types", "elements"):
        universe.add_TopologyAttr(name, symbols)
    universe.add_TopologyAttr("resnames", symbols)
    universe.add_TopologyAttr("resids", np.arange(1, n + 1))
    universe.dimensions = [EDGE, EDGE, EDGE, 90, 90, 90]
    universe.atoms.positions = positions[0]
    universe.atoms.write(str(folder / "box.pdb"))
    with MDAnalysis.Writer(str(folder / "run.xtc"), n_atoms=n) as file:
        for k, now in enumerate(positions):
            universe.atoms.positions = now % EDGE
            universe.trajectory.ts.time = k * INTERVAL
            universe.trajectory.ts.dimensions = [EDGE, EDGE, EDGE, 90, 90, 90]
            file.write(universe.atoms)
    return folder / "run.xtc", folder / "box.pdb"
