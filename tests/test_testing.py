"""The checks that ship find what they are for: each is shown a term with that one fault."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from torch import Tensor

import hff_ase.testing as checks
from hff_ase.batch import AtomsBatch
from hff_ase.neighborhood import Neighborhood
from hff_ase.pairs import PairRequest
from hff_ase.potential import HybridPotential
from hff_ase.terms.pairwise import share_pairs
from hff_ase.terms.term import Fields, Term

CUTOFF = 4.0


class Spring(Term):
    """A sound pair term: smooth to zero, nothing but distances."""

    kind = "spring"

    def requests(self) -> tuple[PairRequest, ...]:
        return (PairRequest(CUTOFF, "half"),)

    def pair_energy(self, batch: AtomsBatch, r: Tensor, vector: Tensor, i: Tensor) -> Tensor:
        return (1.0 - r / CUTOFF).clamp(min=0.0) ** 3

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        pairs = neighbors.pairs(self.requests()[0])
        energy = self.pair_energy(batch, pairs.distance, pairs.vector, pairs.i)
        return share_pairs(energy, pairs, batch.n_atoms)


class WritesToItsInput(Spring):
    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        batch.charge.add_(1.0)
        return super().forward(batch, neighbors, fields)


class SharesAMean(Spring):
    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        energies = super().forward(batch, neighbors, fields)
        return energies - 1e-4 * energies.mean()


class DividesByOthers(Spring):
    """Not a number for an atom that is alone."""

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        energies = super().forward(batch, neighbors, fields)
        return energies / (batch.counts - 1)[batch.system]


class KnowsThePlace(Spring):
    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        return 1e-3 * batch.positions[:, 0] + super().forward(batch, neighbors, fields)


class KnowsTheDirection(Spring):
    def pair_energy(self, batch: AtomsBatch, r: Tensor, vector: Tensor, i: Tensor) -> Tensor:
        return super().pair_energy(batch, r, vector, i) * (1 + 1e-3 * vector[:, 0] ** 2)


class KnowsHandedness(Spring):
    """Differs from its mirror image only."""

    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        pairs = neighbors.pairs(self.requests()[0])
        weight = super().pair_energy(batch, pairs.distance, pairs.vector, pairs.i)[:, None]
        sums = []
        for power in (1, 2, 3):
            message = weight**power * pairs.vector
            field = batch.positions.new_zeros(batch.n_atoms, 3)
            sums.append(field.index_add(0, pairs.i, message).index_add(0, pairs.j, -message))
        return 1e4 * (torch.linalg.cross(sums[0], sums[1]) * sums[2]).sum(-1)


class KnowsTheOrder(Spring):
    def pair_energy(self, batch: AtomsBatch, r: Tensor, vector: Tensor, i: Tensor) -> Tensor:
        return super().pair_energy(batch, r, vector, i) * (1 + 0.01 * batch.index_in_system[i])


class StepsAtItsCutoff(Spring):
    def pair_energy(self, batch: AtomsBatch, r: Tensor, vector: Tensor, i: Tensor) -> Tensor:
        return torch.exp(-r)


class ForgetsAForce(Spring):
    def pair_energy(self, batch: AtomsBatch, r: Tensor, vector: Tensor, i: Tensor) -> Tensor:
        charge = (1.0 + 0.01 * r).detach()
        return charge * super().pair_energy(batch, r, vector, i)


class ForgetsTheCell(Spring):
    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        energies = super().forward(batch, neighbors, fields)
        wrong = batch.volume.detach() / batch.volume  # one, with a slope it should not have
        return energies * (wrong + (1 - wrong).detach())[batch.system]


class ReachesTooFar(Spring):
    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        spread = batch.system_sum(super().forward(batch, neighbors, fields))
        return (spread.square() / batch.counts)[batch.system]


class LosesEmptyLists(Spring):
    def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
        energies = super().forward(batch, neighbors, fields)
        n_pairs = neighbors.pairs(self.requests()[0]).i.numel()
        return energies * (n_pairs / torch.tensor(float(n_pairs)))


def test_a_sound_term_passes() -> None:
    checks.check_term(Spring())
    checks.check_smooth_at_cutoff(HybridPotential({"spring": Spring()}), "spring", 1e-3)


@pytest.mark.parametrize(
    ("term", "check"),
    [
        (WritesToItsInput, checks.check_input_untouched),
        (SharesAMean, checks.check_batch_equals_single),
        (SharesAMean, checks.check_no_gradient_across_systems),
        (DividesByOthers, checks.check_shapes),
        (KnowsThePlace, checks.check_translation),
        (KnowsThePlace, checks.check_lattice_shift),
        (KnowsTheDirection, checks.check_rotation),
        (KnowsHandedness, checks.check_rotation),
        (KnowsTheOrder, checks.check_permutation),
        (StepsAtItsCutoff, checks.check_padded_list),
        (ForgetsAForce, checks.check_forces),
        (ForgetsAForce, checks.check_stress),
        (ForgetsTheCell, checks.check_stress),
        (ReachesTooFar, checks.check_additive),
        (LosesEmptyLists, checks.check_empty_neighborhoods),
    ],
)
def test_a_fault_is_found(term: type[Term], check: Callable[[HybridPotential], None]) -> None:
    potential = HybridPotential({"faulty": term()})
    with pytest.raises(AssertionError, match=r"expected|changes|gradient|neighbours"):
        check(potential)


def test_a_force_at_the_cutoff_is_found() -> None:
    class Constant(Spring):
        def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
            return batch.positions.norm(dim=-1)

    with pytest.raises(AssertionError, match="times the cutoff"):
        checks.check_zero_beyond_cutoff(HybridPotential({"faulty": Constant()}))


def test_a_rough_end_is_found() -> None:
    potential = HybridPotential({"faulty": StepsAtItsCutoff()})
    with pytest.raises(AssertionError, match="just before the cutoff"):
        checks.check_smooth_at_cutoff(potential, "faulty")


def test_handed_terms_pass_proper_rotations_only() -> None:
    """The fault above is one of reflections alone: the check really makes them."""
    potential = HybridPotential({"handed": KnowsHandedness()})
    atoms = checks.cluster("Li4F4H2C2", seed=3)
    turned = checks.rotated(atoms, checks.random_rotation(np.random.default_rng(0)))
    one, two = potential(AtomsBatch.from_atoms([atoms, turned])).energy
    assert float(one) == pytest.approx(float(two), rel=1e-9)
    assert abs(float(one)) > 1e-3


def test_an_undeclared_field_is_found() -> None:
    class Silent(Spring):
        def forward(self, batch: AtomsBatch, neighbors: Neighborhood, fields: Fields) -> Tensor:
            fields["charges"] = batch.positions[:, 0] * 0.0
            return super().forward(batch, neighbors, fields)

    with pytest.raises(AssertionError, match="declares that it gives"):
        checks.check_input_untouched(HybridPotential({"silent": Silent()}))


def smooth_lennard_jones() -> LennardJones:
    return LennardJones(sigma=2.0, epsilon=0.01, rc=6.0, smooth=True)


def argon() -> list[Atoms]:
    return [checks.cluster("Ar6", seed=1), checks.ionic_box("Ar8", spacing=2.4, seed=2)]


def test_another_calculator_passes() -> None:
    checks.check_calculator(smooth_lennard_jones(), argon())


class Wrong(Calculator):
    """Lennard-Jones with one result changed."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name_of_wrong, self.sound = name, smooth_lennard_jones()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: tuple[str, ...] = ("energy",),
        system_changes: tuple[str, ...] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.sound.calculate(self.atoms, ["energy"])
        self.results = {n: np.copy(self.sound.results[n]) for n in ("energy", "forces")}
        if "stress" in self.sound.results:
            self.results["stress"] = np.copy(self.sound.results["stress"])
        if self.name_of_wrong in self.results:
            self.results[self.name_of_wrong] *= -1.0


@pytest.mark.parametrize("name", ["forces", "stress"])
def test_a_wrong_sign_in_a_calculator_is_found(name: str) -> None:
    with pytest.raises(AssertionError, match=f"against its {name}"):
        checks.check_calculator(Wrong(name), argon())


def test_samples_hold_what_they_promise() -> None:
    samples = checks.sample_structures()
    assert set("".join(str(s.symbols) for s in samples.values())) >= set("HLiCNOFPS")
    assert any(s.pbc.all() and s.info.get("charge") for s in samples.values())
    assert any(len(s) == 1 and s.pbc.all() for s in samples.values())
    box = samples["box"]
    assert np.abs(np.asarray(box.cell)).min() > 1e-2  # no component of the cell is zero
    assert box.get_volume() > 0
    smallest = min(np.linalg.norm(s.cell, axis=1).min() for s in samples.values() if s.pbc.all())
    assert smallest < 4.0  # smaller than a cutoff
    only = checks.sample_structures(("Li", "F"))
    assert {symbol for s in only.values() for symbol in s.symbols} == {"Li", "F"}
