"""Charges and electron counts of structures that are computed as closed shells."""

from __future__ import annotations

from ase import Atoms

from hff_ase.errors import StructureError


def check_electrons(atoms: Atoms, charge: int, what: str) -> None:
    """Refuse a molecule or cluster with an odd number of electrons (closed shells only).

    Raises:
        StructureError: names the formula, the charge and the number of electrons.
    """
    electrons = int(atoms.numbers.sum()) - charge
    if electrons % 2:
        formula = atoms.get_chemical_formula("hill")
        raise StructureError(
            f"expected an even number of electrons, got {electrons} in {what} {formula} with "
            f"charge {charge:+d} e: an ion (charges={{'{formula}': -1}}), or a broken molecule?"
        )


def closed_shell_charge(atoms: Atoms) -> int:
    """Total charge ``atoms.info["charge"]`` (0 where absent) that leaves an even electron count.

    Raises:
        StructureError: a charge that is no whole number, or an odd number of electrons.
    """
    value = atoms.info.get("charge", 0)
    try:
        charge = round(float(value))
        whole = abs(float(value) - charge) < 1e-8
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise StructureError(
            f"expected atoms.info['charge'] to be a whole number of e, got {value!r:.60}"
        )
    check_electrons(atoms, charge, "the structure")
    return charge
