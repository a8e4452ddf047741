"""Time of the pair-additive terms, reference against fused kernels, on the CPU.

    python benchmarks/pair_terms.py --atoms 4116

Each term alone with energy, forces and stress, its neighbours reused under the skin as in MD, and
the two that share one pass together; then two benzenes and a water. The reciprocal part of the
lattice sum is left out. Times are the least of some repeats, of the processor with one thread and
on the wall with more, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule

from hff_ase.allocator import keep_memory
from hff_ase.batch import AtomsBatch
from hff_ase.dynamics.build import build_box
from hff_ase.longrange.ewald import EwaldPlan
from hff_ase.neighborhood import Neighborhood
from hff_ase.potential import HybridPotential
from hff_ase.terms.bamboo_dispersion import BambooDispersion
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.dispersion import D3Dispersion
from hff_ase.terms.repulsion import ZBL
from hff_ase.terms.term import Fields, Term

C6 = {"H": 3.0, "Li": 270.0, "C": 19.0, "O": 7.6, "F": 5.0, "P": 104.0}  # eV A^6
R0 = {"H": 2.2, "Li": 3.5, "C": 2.9, "O": 2.5, "F": 2.3, "P": 3.5}  # A


class GivenCharges(Term):
    """Random charges."""

    kind = "given_charges"
    gives = ("charges",)

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> torch.Tensor:
        """No energy."""
        generator = torch.Generator().manual_seed(0)
        fields["charges"] = torch.randn(batch.n_atoms, generator=generator, dtype=torch.float64)
        return torch.zeros_like(fields["charges"])


class RealSpace(Coulomb):
    """The Coulomb term without wave vectors: its pairs alone."""

    kind = "real_space_coulomb"

    def prepare(self, batch: AtomsBatch) -> EwaldPlan:
        """No wave vectors."""
        nothing = torch.zeros((batch.n_systems, 0), dtype=torch.bool)
        return EwaldPlan(torch.zeros((batch.n_systems, 0, 3), dtype=torch.float64), nothing)


def terms(cutoff: float) -> dict[str, dict[str, Term]]:
    """What is measured: a name and the terms of a potential."""
    coulomb = RealSpace("ewald", cutoff, 1e-5, (2.2, 18.7))
    bamboo = BambooDispersion(C6, R0, cutoff=cutoff)
    d3 = D3Dispersion("b3lyp", cutoff=cutoff, cn_cutoff=cutoff)
    return {
        "no pair term": {},
        "Coulomb, real space": {"coulomb": coulomb},
        "BAMBOO dispersion": {"dispersion": bamboo},
        "D3(BJ)": {"d3": d3},
        "ZBL": {"zbl": ZBL()},
        "Coulomb + BAMBOO dispersion": {"coulomb": coulomb, "dispersion": bamboo},
        "Coulomb + D3(BJ)": {"coulomb": coulomb, "d3": d3},
    }


def least_ms(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """The least time of each function, called in turn, after one call that does not count."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times = np.empty((repeats + 1, len(functions)))
    for k in range(repeats + 1):
        for f, function in enumerate(functions):
            start = clock()
            function()
            times[k, f] = clock() - start
    return (1e3 * times[1:].min(0)).tolist()


def measure(atoms: Atoms, cutoff: float, skin: float, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each set of terms, reference and fused, with the potential around them."""
    batch = AtomsBatch.from_atoms(atoms)
    result = {}
    for name, chosen in terms(cutoff).items():
        functions: list[Callable[[], object]] = []
        for kernels in ("reference", "auto"):
            potential = HybridPotential({"charges": GivenCharges(), **chosen}).eval()
            potential.use_kernels(kernels)
            neighbors = potential.neighbor_list(skin)
            functions.append(lambda p=potential, n=neighbors: p(batch, n))  # type: ignore[misc]
        result[name] = least_ms(functions, repeats)
    return result


def main() -> None:
    """Print a table for a box and one for a molecule, and both as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="1.0 M LiPF6 in EC:DMC 1:1 v/v")
    parser.add_argument("--atoms", type=int, default=4116)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cutoff", type=float, default=10.0)
    parser.add_argument("--skin", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(args.threads)
    box = build_box(args.recipe, args.atoms)
    small = molecule("C6H6") + molecule("H2O")
    small.positions[-3:, 2] += 4.0
    small += molecule("C6H6")
    small.positions[-12:, 2] -= 4.0
    tables = {
        f"{len(box)} atoms": measure(box, args.cutoff, args.skin, args.repeats),
        f"{len(small)} atoms": measure(small, args.cutoff, args.skin, 20 * args.repeats),
    }
    for title, table in tables.items():
        print(f"{title:28s} reference / ms  fused / ms")
        for name, (reference, fused) in table.items():
            print(f"{name:28s} {reference:14.2f} {fused:11.3f}")
    print(json.dumps(tables))


if __name__ == "__main__":
    main()
