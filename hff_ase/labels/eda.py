r"""Interaction energies of molecules, decomposed: ALMO-EDA of the second generation, over PySCF.

Electrostatics, Pauli repulsion and dispersion make the frozen interaction energy, followed by
polarisation and charge transfer (Horn, Mao and Head-Gordon, Phys. Chem. Chem. Phys. 18, 23067
(2016)), as Q-Chem's EDA2 and GPU4PySCF define them; see ``docs/labels.md``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.errors import StructureError
from hff_ase.labels.almo import Complex, NotConvergedError
from hff_ase.labels.determinants import Energy, determinant_energy, on_grid
from hff_ase.labels.electrons import check_electrons, closed_shell_charge
from hff_ase.labels.ferf import response_space
from hff_ase.labels.labeller import Label, check_threads, failed
from hff_ase.labels.molecules import find_molecules, formal_charge
from hff_ase.labels.quantum import (
    check_functional,
    check_program,
    converge,
    level_facts,
    level_given,
    quantum_molecule,
)
from hff_ase.labels.quantum_config import EDASettings
from hff_ase.structures import check_structure
from hff_ase.units import HARTREE

__all__ = ["EDALabeller"]

KNOWN = 4  # molecules by themselves that are kept: those of a scan


@dataclass(frozen=True)
class Fragments:
    """The molecules of a structure.

    Attributes:
        members: atoms of each, int64 [m].
        formulas, charges: of each, e.
        ids: int64 [n_atoms], molecule of each atom.
    """

    members: list[np.ndarray]
    formulas: list[str]
    charges: list[int]
    ids: np.ndarray


@dataclass(frozen=True)
class Alone:
    """A molecule by itself.

    Attributes:
        mean_field: converged.
        space: in which it polarises [n, d].
        energy: Hartree.
        strategy: how it converged.
    """

    mean_field: Any
    space: np.ndarray
    energy: float
    strategy: str


class EDALabeller(EDASettings):
    """Decomposes the interaction energy of closed-shell molecules.

    Raises:
        ConfigError: a setting that makes no sense, or a program that is not installed.
    """

    def __init__(
        self, functional: str | None = None, basis: str | None = None, **settings: Any
    ) -> None:
        super().__init__(**level_given(functional, basis), **settings)
        check_program()
        check_functional(self.functional)
        self._known: dict[Any, Alone] = {}

    @property
    def method(self) -> dict[str, Any]:
        """Settings on which the labels depend."""
        own = self.model_dump(exclude={"memory"})
        return {"code": "pyscf", "decomposition": "almo-eda-2", **own}

    def depends_on(self, atoms: Atoms) -> dict[str, Any]:
        """What a label depends on beside structure, total charge and method: its molecules."""
        return {"molecules": self.fragments(atoms).ids.tolist()}

    def fragments(self, atoms: Atoms) -> Fragments:
        """The molecules of a structure with their charges.

        Raises:
            StructureError: fewer than two, an odd number of electrons in one, or charges that do
                not sum to ``info["charge"]``.
        """
        found = find_molecules(atoms)
        charges = [formal_charge(formula, self.formal_charges) for formula in found.formulas]
        names = ", ".join(f"{f} {q:+d}" for f, q in zip(found.formulas, charges, strict=True))
        if len(charges) < 2:
            raise StructureError(f"expected two molecules or more to decompose, got {names}")
        for members, charge in zip(found.members, charges, strict=True):
            check_electrons(atoms[members], charge, "the molecule")
        given = atoms.info.get("charge")
        if given is not None and closed_shell_charge(atoms) != sum(charges):
            raise StructureError(
                f"expected charges of molecules that sum to {given:+g} e (atoms.info['charge']), "
                f"got {names}; set them by formal_charges, such as {found.formulas[0]}=-1"
            )
        return Fragments(found.members, found.formulas, charges, found.index)

    def charged(self, atoms: Atoms) -> Atoms:
        """A copy with the ids of its molecules and the sum of their charges.

        Raises:
            StructureError: as `fragments`.
        """
        found, out = self.fragments(atoms), atoms.copy()
        out.set_array("molecule", found.ids)
        out.info["charge"] = sum(found.charges)
        return out

    def check(self, atoms: Atoms) -> None:
        """Refuse a periodic structure, molecules of unknown charge, and ions of heavy elements."""
        if atoms.pbc.any():
            raise StructureError("expected molecules without a cell for EDA, got a periodic box")
        check_structure(atoms)
        found = self.fragments(atoms)
        if (atoms.numbers > 36).any():
            raise StructureError("expected elements up to Kr for EDA, got heavier ones")
        for members, charge in zip(found.members, found.charges, strict=True):
            quantum_molecule(atoms[members], self.basis, charge, self.memory)

    def label(self, atoms: Atoms, threads: int = 1) -> Label:
        """Decompose the interaction energy of ``atoms`` with a number of ``threads``; where an SCF
        does not converge, a failed label."""
        from pyscf import lib

        check_threads(threads)
        lib.num_threads(threads)
        start = time.perf_counter()
        fragments = self.fragments(atoms)
        facts = self._facts(fragments) | {"threads": threads}
        try:
            arrays, how = self._decompose(atoms, fragments)
        except NotConvergedError as error:
            seconds = round(time.perf_counter() - start, 3)
            return failed(f"no convergence: {error}", **facts, wall_time_s=seconds)
        facts |= {"converged": True, "scf_strategies": how}
        facts["wall_time_s"] = round(time.perf_counter() - start, 3)
        return Label("ok", {k: np.array(v * HARTREE) for k, v in arrays.items()}, facts)

    def _decompose(self, atoms: Atoms, fragments: Fragments) -> tuple[dict[str, float], list[str]]:
        """Energies in Hartree, and how the SCFs converged."""
        order = np.concatenate(fragments.members)
        alone = [
            self._alone(atoms[members], charge, formula)
            for members, charge, formula in zip(
                fragments.members, fragments.charges, fragments.formulas, strict=True
            )
        ]
        molecule = quantum_molecule(atoms[order], self.basis, sum(fragments.charges), self.memory)
        both = Complex(
            self._mean_field(molecule),
            [one.mean_field for one in alone],
            self.tolerance,
            self.max_cycles,
            self.orbital_grid,
        )
        separate = sum(one.energy for one in alone)
        frozen = both.frozen()
        split = both.split()
        electrostatics = both.electrostatics([one.density for one in split])
        dispersion = _beyond_exchange(frozen) - sum(_beyond_exchange(one) for one in split)
        polarised = both.polarised([one.space for one in alone])
        found, strategy = self._converged(both.coarse, "the complex", polarised.density)
        relaxed = both.energy(found.mo_coeff[:, found.mo_occ > 0])
        arrays = {
            "energy": relaxed.total,
            "eda_electrostatics": electrostatics,
            "eda_pauli": frozen.total - separate - electrostatics - dispersion,
            "eda_dispersion": dispersion,
            "eda_polarization": polarised.total - frozen.total,
            "eda_charge_transfer": relaxed.total - polarised.total,
            "eda_total": relaxed.total - separate,
            "eda_classical_electrostatics": both.electrostatics(both.fragment_densities()),
        }
        return arrays, [*(one.strategy for one in alone), strategy]

    def _alone(self, atoms: Atoms, charge: int, formula: str) -> Alone:
        """A molecule by itself; one of the last that was only moved is not computed again."""
        molecule = quantum_molecule(atoms, self.basis, charge, self.memory)
        place = np.round(atoms.positions - atoms.positions[0], 7) + 0.0
        key = atoms.numbers.tobytes(), charge, place.tobytes(), repr(self.method)
        known = self._known.get(key)
        if known is None:
            fine = self._mean_field(molecule)
            found, strategy = self._converged(on_grid(fine, self.orbital_grid), formula)
            occupied = found.mo_coeff[:, found.mo_occ > 0]
            energy = determinant_energy(
                fine, occupied, fine.get_hcore(), float(molecule.energy_nuc())
            ).total
            space = response_space(found)
            found.with_df = None  # its integrals are not needed any more
            known = self._known[key] = Alone(found, space, energy, strategy)
            while len(self._known) > KNOWN:
                del self._known[next(iter(self._known))]
        moved = known.mean_field.copy()
        moved.mol = molecule
        return replace(known, mean_field=moved)

    def _converged(
        self, mean_field: Any, what: str, density: np.ndarray | None = None
    ) -> tuple[Any, str]:
        """A converged copy of a mean field, and how it got there."""
        found, strategy, _ = converge(mean_field.copy, density)
        if found is None:
            raise NotConvergedError(f"SCF of {what}")
        return found, strategy

    def _mean_field(self, molecule: Any) -> Any:
        from pyscf import df, dft

        mean_field = dft.RKS(molecule, xc=self.functional)
        mean_field.grids.level, mean_field.nlcgrids.level = self.grid, self.nonlocal_grid
        if self.nonlocal_correlation == "afterwards":
            mean_field.nlc = 0  # PySCF's "none"
        if self.density_fitting:
            # published fitting sets lack diffuse functions: with those of the def2 bases, ions fit
            # their density with functions of their neighbour (1 kJ/mol for water and Cl-)
            mean_field = mean_field.density_fit(auxbasis=df.aug_etb(molecule))
        mean_field.conv_tol, mean_field.max_cycle = self.tolerance, self.max_cycles
        return mean_field

    def _facts(self, fragments: Fragments) -> dict[str, Any]:
        return level_facts(self, "none") | {
            "decomposition": "ALMO-EDA 2, polarisation in FERF nDQ, dispersion beyond HF exchange, "
            "no counterpoise",
            "nonlocal_grid_level": self.nonlocal_grid,
            "orbital_grid_level": min(self.orbital_grid, self.grid),
            "molecules": " ".join(fragments.formulas),
            "molecule_charges": " ".join(str(charge) for charge in fragments.charges),
        }


def _beyond_exchange(energy: Energy) -> float:
    """Exchange and correlation of the functional less exact exchange, Hartree."""
    return energy.exchange_correlation - energy.exact_exchange
