"""A structure's total charge and spins, compared with its molecules.

Many formats lose the total charge (ase.db, cif, pdb, POSCAR), other programs take it from the
initial charges, and pieces of a box keep the charge of the whole: a cluster with Li+ is then a
neutral one, some eV away, silently. No energy depends on what is found here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from hff_ase.domain import Domain
from hff_ase.labels.molecules import IONS, formal_charge
from hff_ase.structures import stated_charges, total_charge
from hff_ase.topology import Connectivity, Kind, perceive

ROUNDING = 0.5  # e: the initial charges of a large box do not sum to a whole number
SPINS = ("spin", "multiplicity", "spin_multiplicity")  # 1, or 0, for no unpaired electron


def charge_of_molecules(topology: Connectivity, domain: Domain | None = None) -> int | None:
    """Sum of the formal charges of the molecules, e; None if one is unknown.

    Known are those of a domain and of a table of ions; what else has an even number of electrons
    is taken as neutral.
    """
    charges = [(kind.count, _charge_of_kind(kind, domain)) for kind in topology.kinds()]
    if any(charge is None for _, charge in charges):
        return None
    return sum(count * charge for count, charge in charges if charge)


def charge_doubt(
    atoms: Atoms, domain: Domain | None = None, topology: Connectivity | None = None
) -> str | None:
    """How the total charge of a structure differs from that of its molecules; None if it does not.

    A charge that is stated and not zero is believed, unless all molecules are those of a domain
    that has charges; an atom alone may be neutral.

    Raises:
        StructureError: the total charge is not a number.
    """
    total, stated = total_charge(atoms), bool(stated_charges(atoms))
    if len(atoms) < 2:
        return None
    topology = topology or perceive(atoms)
    if total and not _knows(domain, topology):
        return None
    sum_of_molecules = charge_of_molecules(topology, domain)
    if sum_of_molecules is None or abs(total - sum_of_molecules) < ROUNDING:
        return None
    got = f"{total:g} e" if stated else "none, which is 0 e"
    return (
        f"expected the total charge of the molecules, {sum_of_molecules} e, got {got} "
        f"(atoms.info['charge'], charge={sum_of_molecules} in an extxyz file)"
    )


def other_doubts(atoms: Atoms) -> list[str]:
    """Properties of a structure that no model here uses: charges of atoms, unpaired electrons."""
    doubts = []
    if atoms.has("initial_charges"):
        given, total = float(atoms.get_initial_charges().sum()), total_charge(atoms)
        if abs(given - total) > ROUNDING:
            doubts.append(
                f"initial charges are not used, and sum to {given:g} e where the total charge is "
                f"{total:g} e (atoms.info['charge'])"
            )
    for key in SPINS:
        if _number(atoms.info.get(key)) > 1:
            doubts.append(
                f"{key} {atoms.info[key]} is not used: models here know closed shells only"
            )
    return doubts


def _knows(domain: Domain | None, topology: Connectivity) -> bool:
    """Whether a domain has the charge of every molecule."""
    if domain is None or not any(molecule.charge for molecule in domain.molecules):
        return False
    return all(domain.find(kind.graph) is not None for kind in topology.kinds())


def _charge_of_kind(kind: Kind, domain: Domain | None) -> int | None:
    known = domain.find(kind.graph) if domain is not None else None
    if known is not None and known.charge:
        return known.charge
    formula = kind.graph.formula
    if len(kind.graph.numbers) == 1 and formula not in IONS:
        return None
    charge = formal_charge(formula)
    paired = (sum(kind.graph.numbers) - charge) % 2 == 0
    return charge if paired else None


def _number(value: Any) -> float:
    try:
        return float(np.asarray(value).item())
    except (TypeError, ValueError):
        return 0.0
