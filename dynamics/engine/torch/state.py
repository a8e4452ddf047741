"""The state of many systems as flat tensors, what is held constant, and sums over systems."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from ase import units
from torch import Tensor

from hff_ase.batch import AtomsBatch
from hff_ase.passes import Evaluation


@dataclass(frozen=True)
class State:
    """Where all systems are after a step; everything that the next step depends on.

    Attributes:
        positions: [n_atoms, 3], Angstrom, not wrapped.
        momenta: [n_atoms, 3], amu * ASE velocity; each system's sum is zero.
        forces: [n_atoms, 3], eV/Angstrom, without the part that would move a centre of mass.
        cell: [n_systems, 3, 3], rows, Angstrom.
        stress: [n_systems, 3, 3], of the potential, eV/Angstrom^3.
        energy: [n_systems], of the potential, eV.
        kinetic: [n_systems], eV, as it is reported (see `Integrator`).
        heat: [n_systems], eV that Langevin dynamics or a shear has brought in.
        p_volume: [n_systems], momentum of the logarithm of the cell's length, eV * ASE time.
        chain, p_chain: [n_systems, n_chains, length], Nose-Hoover variables and their momenta.
    """

    positions: Tensor
    momenta: Tensor
    forces: Tensor
    cell: Tensor
    stress: Tensor
    energy: Tensor
    kinetic: Tensor
    heat: Tensor
    p_volume: Tensor
    chain: Tensor
    p_chain: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by the name of its attribute."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True)
class Conditions:
    """What is held constant.

    Attributes:
        batch: the systems (its positions and cells are not used).
        masses: [n_atoms, 1], amu.
        temperature: [n_systems], K.
        pressure: [n_systems], eV/Angstrom^3.
        timestep: ASE time.
        friction: of Langevin dynamics, 1/ASE time.
        tdamp, pdamp: time constants of chains and barostat, ASE time.
        shear: amplitude of a cosine acceleration (`Sheared`), Angstrom/ASE time^2.
    """

    batch: AtomsBatch
    masses: Tensor
    temperature: Tensor
    pressure: Tensor
    timestep: float
    friction: float
    tdamp: float
    pdamp: float
    shear: float = 0.0

    def __post_init__(self) -> None:
        _ = self.batch.max_count, self.batch.index_in_system  # known before the first step

    @property
    def thermal(self) -> Tensor:
        """Thermal degrees of freedom 3N - 3, float64 [n_systems]: the centre of mass is at rest."""
        return 3.0 * self.batch.counts.double() - 3.0

    @property
    def kt(self) -> Tensor:
        """Thermal energies k_B T, [n_systems], eV."""
        return units.kB * self.temperature

    def sum(self, per_atom: Tensor) -> Tensor:
        """Sums over systems, [n_atoms, ...] to [n_systems, ...], in the same order every time.

        Without the atomic additions of a scatter, whose order on a GPU changes from call to call.
        """
        return self.batch.pad(per_atom).sum(1)

    def largest(self, per_atom: Tensor) -> tuple[Tensor, Tensor]:
        """The largest of the values >= 0 [n_atoms] per system and its atom's index there."""
        value, index = self.batch.pad(per_atom).max(1)
        return value, index

    def spread(self, per_system: Tensor) -> Tensor:
        """A quantity of systems for their atoms, [n_systems] to [n_atoms, 1] (or broadcast)."""
        if self.batch.n_systems == 1:
            return per_system[:, None]
        return per_system.index_select(0, self.batch.system)[:, None]

    def kinetic(self, momenta: Tensor) -> Tensor:
        """Kinetic energies [n_systems], eV, of ``momenta`` [n_atoms, 3], amu * ASE velocity."""
        return 0.5 * self.sum((momenta.square() / self.masses).sum(-1))

    def without_drift(self, vectors: Tensor) -> Tensor:
        """Forces or momenta [n_atoms, 3] less their mass-weighted share of each system's sum.

        A mesh in reciprocal space leaves small net forces; they would push the whole system.
        """
        if self.batch.n_systems == 1:
            return vectors - self.masses * (vectors.sum(0) / self.masses.sum())
        share = self.sum(vectors) / self.sum(self.masses)
        return vectors - self.masses * share.index_select(0, self.batch.system)

    def moved(self, state: State) -> AtomsBatch:
        """The batch of atoms at the positions and in the cells of ``state``, for the potential."""
        return self.batch.moved(state.positions, state.cell)


def begin(conditions: Conditions, positions: Tensor, momenta: Tensor, cell: Tensor) -> State:
    """A state before its forces are known.

    Args:
        conditions: what is held constant.
        positions: [n_atoms, 3], Angstrom.
        momenta: [n_atoms, 3], amu * ASE velocity; those of each system must add up to zero.
        cell: [n_systems, 3, 3], rows, Angstrom.
    """
    n_systems = conditions.batch.n_systems
    zero = positions.new_zeros(n_systems)
    return State(
        positions=positions.clone(),
        momenta=momenta.clone(),
        forces=torch.zeros_like(positions),
        cell=cell.clone(),
        stress=torch.zeros_like(cell),
        energy=zero,
        kinetic=conditions.kinetic(momenta),
        heat=zero.clone(),
        p_volume=zero.clone(),
        chain=positions.new_zeros(n_systems, 0, 0),
        p_chain=positions.new_zeros(n_systems, 0, 0),
    )


def volume(cell: Tensor) -> Tensor:
    """Volumes [n_systems] of right-handed cells, Angstrom^3."""
    # not torch.linalg.det, whose factorisation is slow for one 3x3 matrix and looks at the host
    return (torch.linalg.cross(cell[:, 0], cell[:, 1]) * cell[:, 2]).sum(-1)


def with_forces(
    state: State, conditions: Conditions, energy: Tensor, forces: Tensor, stress: Tensor
) -> State:
    """A state with what the potential gave at its positions.

    Args:
        state: positions and cells as they were evaluated.
        conditions: whose masses share out the net force of each system.
        energy: [n_systems], eV.
        forces: [n_atoms, 3], eV/Angstrom.
        stress: [n_systems, 3, 3], eV/Angstrom^3.
    """
    forces = conditions.without_drift(forces.double())
    return replace(state, energy=energy, forces=forces, stress=stress)


def with_evaluation(state: State, conditions: Conditions, evaluation: Evaluation) -> State:
    """`with_forces` of an evaluation of the potential, which must have forces and a stress."""
    forces, stress = forces_and_stress(evaluation)
    return with_forces(state, conditions, evaluation.energy, forces, stress)


def forces_and_stress(evaluation: Evaluation) -> tuple[Tensor, Tensor]:
    """Forces [n_atoms, 3], eV/Angstrom, and stress [n_systems, 3, 3], eV/Angstrom^3.

    Raises:
        ValueError: the evaluation has none.
    """
    if evaluation.forces is None or evaluation.stress is None:
        raise ValueError("expected forces and a stress, got an evaluation without")
    return evaluation.forces, evaluation.stress
