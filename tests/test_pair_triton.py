"""The pair sums for GPUs against the torch reference, on a GPU or interpreted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import triton_interpreter
from ase.build import molecule
from core_models import C6, R0, mixed_systems

from hff_ase.batch import AtomsBatch
from hff_ase.kernels.pair import pair_sums
from hff_ase.potential import HybridPotential
from hff_ase.terms.bamboo_dispersion import BambooDispersion
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.dispersion import D3Dispersion
from hff_ase.terms.pairwise import ElementPairTerm
from hff_ase.terms.repulsion import ZBL
from hff_ase.terms.term import Term

CUTOFF = 5.013
TERMS: dict[str, Callable[[], ElementPairTerm]] = {
    "BAMBOO": lambda: BambooDispersion(C6, R0, cutoff=CUTOFF),
    "D3, switched": lambda: D3Dispersion("pbe", "bj", None, CUTOFF, 4.017, 1.5),
    "D3, sharp": lambda: D3Dispersion("pbe", "zero", None, CUTOFF, 4.017, 0.0),
    "ZBL": lambda: ZBL(scale=1.0),
}


def batch_of(n: int) -> AtomsBatch:
    """Small boxes, molecules and single atoms."""
    small = [atoms for atoms in mixed_systems(16) if len(atoms) < 8][:n]
    return AtomsBatch.from_atoms([*small, molecule("CH3OH")], triton_interpreter.DEVICE)


def derivatives(
    batch: AtomsBatch, terms: dict[str, Term], kernels: str | None
) -> list[torch.Tensor]:
    """Energies per term, dE/dx, dE/dcell and dE/dq of their sum."""
    potential = HybridPotential(terms).eval().to(batch.device)
    neighbors = potential.neighbor_list(0.3)
    neighbors.update(batch)
    positions = batch.positions.clone().requires_grad_()
    cell = batch.cell.clone().requires_grad_()
    charges = torch.cos(torch.arange(batch.n_atoms, dtype=torch.float64)).to(batch.device)
    charges.requires_grad_()
    moved = batch.moved(positions, cell)
    neighborhood = neighbors.bind(moved, kernels=kernels)  # type: ignore[arg-type]
    neighborhood.terms = tuple(terms.values())
    energies = [term(moved, neighborhood, {"charges": charges}) for term in terms.values()]
    total = torch.stack(energies)
    gradients = torch.autograd.grad(total.sum(), (positions, cell, charges), allow_unused=True)
    known = [g for g in gradients if g is not None]
    return [total.detach(), *known]


@pytest.mark.parametrize("name", list(TERMS))
def test_element_terms_equal_the_reference(name: str) -> None:
    batch = batch_of(5)
    pairs = zip(
        derivatives(batch, {name: TERMS[name]()}, None),
        derivatives(batch, {name: TERMS[name]()}, "triton"),
        strict=True,
    )
    for expected, got in pairs:
        assert float((got - expected).abs().max()) <= 2e-6 * float(expected.abs().max())


class WithCharges(Coulomb):
    """Coulomb of charges from outside."""

    needs = ()


@pytest.mark.parametrize("damping", [None, (1.2, 18.7)])
def test_coulomb_with_dispersion_equals_the_reference(damping: tuple[float, float] | None) -> None:
    """In one pass for boxes; molecules have a pass of their own."""
    batch = batch_of(5)
    terms = {
        "coulomb": WithCharges("ewald", CUTOFF, 1e-6, damping),
        "d": TERMS["D3, switched"](),
    }
    pairs = zip(derivatives(batch, terms, None), derivatives(batch, terms, "triton"), strict=True)
    for expected, got in pairs:
        assert float((got - expected).abs().max()) <= 2e-6 * float(expected.abs().max())


def test_the_same_twice() -> None:
    batch = batch_of(3)
    term = TERMS["BAMBOO"]()
    potential = HybridPotential({"d": term}).to(batch.device)
    neighbors = potential.neighbor_list(0.3)
    neighbors.update(batch)
    neighborhood = neighbors.bind(batch, kernels="triton")
    needed = term.kernel_input(batch, neighborhood)
    assert needed is not None
    first, second = (
        pair_sums(batch, neighborhood, term.pair_request, None, None, *needed) for _ in range(2)
    )
    assert torch.equal(first.d_positions, second.d_positions)
    assert torch.equal(first.energy, second.energy)
