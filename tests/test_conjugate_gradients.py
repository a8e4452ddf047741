"""The solver of charges and dipoles on matrices whose solution is known."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.errors import StructureError
from hff_ase.longrange.conjugate_gradients import ConjugateGradients, Wording
from hff_ase.longrange.induction.solve import WORDING as DIPOLES
from hff_ase.longrange.qeq.cg import WORDING as CHARGES

FEW, MANY = 4, 600


def two_systems() -> AtomsBatch:
    """A system of few atoms and one of many, far apart."""
    chains = []
    for n in (FEW, MANY):
        chain = Atoms(f"Ar{n}")
        chain.positions[:, 0] = 4.0 * torch.arange(n).numpy()
        chains.append(chain)
    return AtomsBatch.from_atoms(chains)


def spectrum(hardest: float) -> Tensor:
    """Eigenvalues of a diagonal matrix: near 1 in the small system, spread in the large one."""
    small = torch.linspace(1.0, 1.5, FEW, dtype=torch.float64)
    return torch.cat([small, torch.logspace(0.0, hardest, MANY, dtype=torch.float64)])


def solver(eigenvalues: Tensor, wording: Wording) -> ConjugateGradients:
    return ConjugateGradients(two_systems(), lambda x: eigenvalues * x, lambda r: r, 1e-9, wording)


@pytest.mark.parametrize("wording", [CHARGES, DIPOLES], ids=["charges", "dipoles"])
def test_no_convergence_names_the_system_and_what_to_change(wording: Wording) -> None:
    """More eigenvalues than iterations over eight decades, and no preconditioner."""
    cg = solver(spectrum(8.0), wording)
    with pytest.raises(StructureError) as error:
        cg.solve(torch.ones(FEW + MANY, dtype=torch.float64), torch.zeros(FEW + MANY).double())
    message = str(error.value)
    assert message.startswith(
        f"expected {wording.problem} to converge to 1.0e-09 {wording.unit}, got an estimated error"
    )
    assert "(structure 1) after 200 iterations" in message
    assert message.endswith(f"a looser {wording.option}, or solver='dense'")


def test_the_solution_is_that_of_the_matrix_for_each_system_alone() -> None:
    eigenvalues = spectrum(2.0)
    generator = torch.Generator().manual_seed(1)
    exact = torch.randn(FEW + MANY, generator=generator, dtype=torch.float64)
    cg = solver(eigenvalues, CHARGES)
    found = cg.solve(eigenvalues * exact, torch.zeros_like(exact))
    assert float((found - exact).abs().max()) < 1e-9
    assert FEW <= cg.iterations < 200
    again = solver(eigenvalues, CHARGES)
    assert again.solve(eigenvalues * exact, found) is not None
    assert again.iterations == 0  # a solution handed in as the guess is accepted


def test_an_indefinite_matrix_is_refused() -> None:
    eigenvalues = spectrum(1.0)
    eigenvalues[-1] = -1.0
    right = torch.ones(FEW + MANY, dtype=torch.float64)
    with pytest.raises(StructureError, match=r"positive definite .*structure 1"):
        solver(eigenvalues, CHARGES).solve(right, torch.zeros_like(right))
