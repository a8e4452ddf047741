"""How the cost of the long-range electrostatics grows with the system.

    python benchmarks/mesh_scaling.py --atoms 1000 3000 10000 30000 --json mesh_scaling.json

Times energy, forces and stress of random ionic liquids (0.089 atoms per cubic Angstrom, mean cell
shape slightly triclinic) for the reciprocal-space sum alone and for the whole Coulomb term, by mesh
and, up to --ewald atoms, by plain Ewald summation; fits time ~ atoms^exponent. The reciprocal sum
is timed three times: by autograd, with explicit derivatives ("fast"), and those with a cell that is
new in every step, as at constant pressure ("npt"). On one thread times are CPU times, which other
work on the machine disturbs less; on several they are wall times.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from ase import Atoms

from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.neighborhood import Neighborhood
from hff_ase.potential import HybridPotential
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.term import Fields, Term

DENSITY = 0.089  # atoms per cubic Angstrom, as in liquid electrolytes


class AlternatingCharges(Term):
    """Charges of +-0.5 e by turns: a stand-in for a charge model that costs nothing."""

    kind = "alternating_charges"
    gives = ("charges",)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> torch.Tensor:
        """Zero energy."""
        charges = 0.5 - (batch.index_in_system % 2).double()
        fields["charges"] = charges - (batch.system_sum(charges) / batch.counts)[batch.system]
        return torch.zeros_like(charges)


def liquid(n_atoms: int, seed: int = 0) -> Atoms:
    """Atoms near a lattice, displaced at random, in a slightly skewed cell."""
    rng = np.random.default_rng(seed)
    edge = (n_atoms / DENSITY) ** (1 / 3)
    cell = edge * np.array([[1.0, 0, 0], [0.05, 1.0, 0], [-0.04, 0.03, 1.0]])
    per_side = int(np.ceil(n_atoms ** (1 / 3)))
    sites = np.stack(np.meshgrid(*[np.arange(per_side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    chosen = rng.permutation(len(sites))[:n_atoms]
    scaled = (sites[chosen] + 0.5 + 0.15 * rng.standard_normal((n_atoms, 3))) / per_side
    return Atoms("H" * n_atoms, positions=scaled @ cell, cell=cell, pbc=True)


def best_time(action: Callable[[], Any], repeats: int) -> float:
    """Shortest time in milliseconds, after one call to warm up."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    action()
    times = []
    for _ in range(repeats):
        start = clock()
        action()
        times.append(clock() - start)
    return 1e3 * min(times)


def measure(n_atoms: int, method: str, cutoff: float, tolerance: float) -> dict[str, Any]:
    """Times in ms: the whole term, and its reciprocal-space sum."""
    term = Coulomb(method=method, cutoff=cutoff, tolerance=tolerance)
    potential = HybridPotential({"charges": AlternatingCharges(), "coulomb": term})
    batch = AtomsBatch.from_atoms(liquid(n_atoms))
    neighbors = potential.neighbor_list(skin=0.5)
    neighbors.update(batch)
    plan = neighbors.plan(term)
    charges = potential(batch, neighbors).fields["charges"]

    def reciprocal() -> None:
        positions = batch.positions.clone().requires_grad_()
        cell = batch.cell.clone().requires_grad_()
        phi = term.reciprocal.potential(batch.moved(positions, cell), charges, plan)
        torch.autograd.grad((0.5 * charges * phi).sum(), (positions, cell))

    def fast() -> None:
        term.reciprocal.explicit(batch, charges, plan)

    def npt() -> None:
        batch.cell.mul_(1.0 + 1e-12)
        fast()

    repeats = max(5, min(30, 60000 // n_atoms))
    return {
        "atoms": n_atoms,
        "method": method,
        "mesh": list(plan[0].grid.shape) if method == "pme" else None,
        "waves": plan.index.shape[1] if method == "ewald" else None,
        "reciprocal_ms": best_time(reciprocal, repeats),
        "fast_ms": best_time(fast, repeats),
        "npt_ms": best_time(npt, repeats),
        "total_ms": best_time(lambda: potential(batch, neighbors), repeats),
    }


def exponent(rows: list[dict[str, Any]], key: str) -> float | None:
    """Slope of log time against log atoms."""
    if len(rows) < 2:
        return None
    atoms, times = ([row[name] for row in rows] for name in ("atoms", key))
    return float(np.polyfit(np.log(atoms), np.log(times), 1)[0])


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = [1000, 2000, 4000, 8000, 16000, 30000]
    parser.add_argument("--atoms", type=int, nargs="+", default=sizes)
    parser.add_argument("--ewald", type=int, default=2000, help="largest system for plain Ewald")
    parser.add_argument("--cutoff", type=float, default=9.0, help="real-space cutoff, Angstrom")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    numba.set_num_threads(arguments.threads)
    keep_memory()
    rows: list[dict[str, Any]] = []
    print(
        f"{'atoms':>7} {'method':>7} {'mesh/waves':>13} {'reciprocal ms':>14} "
        f"{'fast ms':>8} {'npt ms':>7} {'fast us/atom':>12} {'total ms':>9}"
    )
    for n_atoms in arguments.atoms:
        for method in ("pme", "ewald") if n_atoms <= arguments.ewald else ("pme",):
            row = measure(n_atoms, method, arguments.cutoff, arguments.tolerance)
            size = "x".join(map(str, row["mesh"])) if row["mesh"] else str(row["waves"])
            print(
                f"{n_atoms:7d} {method:>7} {size:>13} {row['reciprocal_ms']:14.1f} "
                f"{row['fast_ms']:8.2f} {row['npt_ms']:7.2f} "
                f"{1e3 * row['fast_ms'] / n_atoms:12.2f} {row['total_ms']:9.1f}",
                flush=True,
            )
            rows.append(row)
    fits: dict[str, float | None] = {}
    for method in ("pme", "ewald"):
        for key in ("reciprocal_ms", "fast_ms", "total_ms"):
            fit = exponent([row for row in rows if row["method"] == method], key)
            fits[f"{method}_{key.removesuffix('_ms')}"] = fit
            if fit is not None:
                print(f"{method:>7} {key.removesuffix('_ms'):>10}: time ~ atoms^{fit:.2f}")
    ratios = {}
    for n_atoms in arguments.atoms:
        pair = {r["method"]: r["reciprocal_ms"] for r in rows if r["atoms"] == n_atoms}
        if len(pair) == 2:
            ratios[n_atoms] = pair["ewald"] / pair["pme"]
            print(f"Ewald takes {ratios[n_atoms]:.1f} times the mesh's time for {n_atoms} atoms")
    if arguments.json:
        settings = {k: v for k, v in vars(arguments).items() if k != "json"}
        result = {"settings": settings, "rows": rows, "exponents": fits, "ewald_over_pme": ratios}
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
