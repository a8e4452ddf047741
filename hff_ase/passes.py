"""One pass over a batch: what is asked of it, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from hff_ase.halo import Halo
from hff_ase.kept import LiveParameters
from hff_ase.memory import Memory
from hff_ase.terms.term import Fields

__all__ = ["Evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """What one pass gives, in ASE's units.

    Attributes:
        energy: float64 [n_systems], eV.
        energies: float64 [n_atoms], atomic energies, eV.
        energy_terms: float64 [n_systems] per term, eV.
        forces: [n_atoms, 3], eV/Angstrom, or None.
        stress: [n_systems, 3, 3], dE/dstrain/V in eV/Angstrom^3 (ASE's sign), or None; zero for
            systems without a cell.
        molecular_stress: the same with molecules strained as rigid bodies, or None.
        parameter_gradients: dE/dtheta [n_systems, ...] per parameter that was asked for.
        fields: the per-atom fields that the terms gave.
    """

    energy: Tensor
    energies: Tensor
    energy_terms: dict[str, Tensor]
    forces: Tensor | None = None
    stress: Tensor | None = None
    molecular_stress: Tensor | None = None
    parameter_gradients: dict[str, Tensor] = field(default_factory=dict)
    fields: Fields = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What is asked of one pass.

    Attributes:
        forces, stress, molecular_stress: which derivatives.
        create_graph: keep the graph of the derivatives (losses on forces and stress).
        parameters: fused weights of a training step; kernels then run in any precision.
        parts: names of the terms whose energies count, or parts of them ("coulomb.real"); None for
            all. What feeds them is evaluated along.
        owned: bool [n_atoms] in the order of the batch, whose energies count; None for all.
        halo: to the processes that own the other atoms.
        memory: what solvers keep along the trajectory that this pass is a step of.
    """

    forces: bool = True
    stress: bool = True
    molecular_stress: bool = False
    create_graph: bool = False
    parameters: LiveParameters | None = None
    parts: frozenset[str] | None = None
    owned: Tensor | None = None
    halo: Halo | None = None
    memory: Memory | None = None
