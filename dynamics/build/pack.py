"""Pack molecules into a periodic box with packmol, and check the result."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from hff_ase.errors import RecipeError

from .library import Molecule

# Distances asked of packmol between atoms of different molecules, Angstrom, in this order. At
# liquid density 2.0 is nearly always met; the least that is ever accepted is MIN_CONTACT.
TOLERANCES = (2.0, 1.8, 1.6)
MIN_CONTACT = 1.5
N_LOOPS = 40  # packmol's own restarts for each kind of molecule before it gives up
MAX_SEED = 2**31 - 2  # packmol reads a 32-bit integer


def pack(
    molecules: Sequence[tuple[Molecule, int]], length: float, seed: int, timeout: float
) -> Atoms | None:
    """Rigid copies of each molecule in a cubic periodic box of side ``length`` Angstrom.

    Molecules are whole (never wrapped), in the order given, with ``arrays["molecule"]`` counting
    them from 0. None where packmol finds no placement without contacts closer than 1.5 Angstrom;
    RecipeError after ``timeout`` seconds or if packmol cannot run. The seed decides the box.
    """
    if not 0 <= seed <= MAX_SEED:
        raise RecipeError(f"expected a seed from 0 to {MAX_SEED}, got {seed}")
    for tolerance in TOLERANCES:
        positions = _run_packmol(molecules, length, tolerance, seed, timeout)
        if positions is None:
            continue
        box = _assemble(molecules, positions, length)
        if closest_contact(box, MIN_CONTACT) >= MIN_CONTACT:
            return box
    return None


def closest_contact(atoms: Atoms, cutoff: float = 3.0) -> float:
    """Shortest distance between atoms of different molecules or different images, Angstrom.

    Needs whole molecules and ``arrays["molecule"]``; infinity if there is none below ``cutoff``.
    """
    # ASE's search: vesin's would be faster, but imports torch, a second for every box
    i, j, shift, distance = neighbor_list("ijSd", atoms, cutoff)
    molecule = atoms.arrays["molecule"]
    foreign = (molecule[i] != molecule[j]) | shift.any(axis=1)
    return float(distance[foreign].min(initial=np.inf))


def _assemble(
    molecules: Sequence[tuple[Molecule, int]], positions: np.ndarray, length: float
) -> Atoms:
    symbols = [s for molecule, n in molecules for s in molecule.symbols * n]
    sizes = [len(molecule) for molecule, n in molecules for _ in range(n)]
    atoms = Atoms(symbols, positions=positions, cell=[length] * 3, pbc=True)
    atoms.set_array("molecule", np.repeat(np.arange(len(sizes)), sizes))
    return atoms


def _run_packmol(
    molecules: Sequence[tuple[Molecule, int]],
    length: float,
    tolerance: float,
    seed: int,
    timeout: float,
) -> np.ndarray | None:
    """Positions [n_atoms, 3] in Angstrom, or None where packmol reports no solution."""
    with tempfile.TemporaryDirectory(prefix="hff-build-") as folder:
        path = Path(folder)
        script = path / "box.inp"
        script.write_text(_script(molecules, length, tolerance, seed))
        for index, (molecule, _) in enumerate(molecules):
            (path / f"{index}.xyz").write_text(_xyz(molecule))
        try:
            with script.open() as stdin:  # packmol rewinds its input: a pipe will not do
                done = subprocess.run(
                    [str(_packmol_binary())],
                    stdin=stdin,
                    cwd=path,
                    capture_output=True,
                    text=True,
                    timeout=timeout,
                    check=False,
                )
        except subprocess.TimeoutExpired:
            raise RecipeError(
                f"packmol found no box of {length:.1f} A within {timeout:g} s: expected a lower "
                "density, fewer atoms or a longer timeout"
            ) from None
        output = path / "packed.xyz"
        if done.returncode != 0 or "Success!" not in done.stdout or not output.exists():
            return None
        return _read_xyz(output, sum(len(molecule) * n for molecule, n in molecules))


def _script(
    molecules: Sequence[tuple[Molecule, int]], length: float, tolerance: float, seed: int
) -> str:
    lines = [
        f"tolerance {tolerance}",
        f"seed {seed}",
        f"nloop {N_LOOPS}",
        "filetype xyz",
        "output packed.xyz",
        f"pbc {length:.8f} {length:.8f} {length:.8f}",
    ]
    for index, (_, n) in enumerate(molecules):
        lines += [f"structure {index}.xyz", f"  number {n}", "end structure"]
    return "\n".join(lines) + "\n"


def _xyz(molecule: Molecule) -> str:
    rows = [
        f"{symbol} {x:.8f} {y:.8f} {z:.8f}"
        for symbol, (x, y, z) in zip(molecule.symbols, molecule.positions, strict=True)
    ]
    return "\n".join([str(len(molecule)), "", *rows]) + "\n"


def _read_xyz(path: Path, n_atoms: int) -> np.ndarray | None:
    rows = [line.split()[1:4] for line in path.read_text().splitlines()[2:]]
    return np.array(rows, dtype=float) if len(rows) == n_atoms else None


def _packmol_binary() -> Path:
    try:
        from packmol.cli import get_binary_path

        return Path(get_binary_path())
    except (ImportError, FileNotFoundError) as error:
        raise RecipeError(
            "expected the packmol program of the PyPI package packmol, found none: "
            "pip install --force-reinstall packmol"
        ) from error
