"""Checks of an ASE calculator, of whatever make."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from hff_ase.errors import HFFWarning, StructureError
from hff_ase.testing.compare import assert_close, label
from hff_ase.testing.derivatives import VOIGT, strained
from hff_ase.testing.structures import random_rotation, sample_structures
from hff_ase.testing.symmetry import rotated

SHAPES: dict[str, tuple[int | None, ...]] = {  # None: number of atoms
    "energy": (), "free_energy": (), "energies": (None,), "forces": (None, 3), "charges": (None,),
    "dipole": (3,),
}  # fmt: skip


def check_calculator(
    calculator: Calculator,
    structures: Iterable[Atoms] | None = None,
    tolerance: float = 1e-5,
    derivative_tolerance: float | None = 1e-3,
    step: float = 5e-3,
) -> None:
    """Everything a calculator owes its users, over ASE's own interface.

    Args:
        structures: of elements that it knows; `sample_structures` where not given.
        tolerance: for results that should be the same, relative to their size, at least 1.
        derivative_tolerance: for forces and stress against differences of the energy; None to
            leave those out.
        step: of the differences, Angstrom and strain (smaller in float64).
    """
    structures = list(sample_structures().values() if structures is None else structures)
    for atoms in structures:
        _check_interface(calculator, atoms)
        _check_invariance(calculator, atoms, tolerance)
        if derivative_tolerance is not None:
            _check_derivatives(calculator, atoms, derivative_tolerance, step)
    _check_charge_is_seen(calculator, structures[0])
    evaluate = getattr(calculator, "evaluate", None)
    if evaluate is not None:
        _check_batched(calculator, structures, evaluate(structures), tolerance)


def _results(calculator: Calculator, atoms: Atoms) -> dict[str, np.ndarray]:
    asked = [*SHAPES, "stress"] if atoms.pbc.all() else list(SHAPES)
    names = [name for name in asked if name in calculator.implemented_properties]
    return {name: np.array(calculator.get_property(name, atoms)) for name in names}


def _check_interface(calculator: Calculator, atoms: Atoms) -> None:
    """Shapes, finite values, the structure untouched, results that are the caller's to keep."""
    n, given = len(atoms), atoms.copy()
    results = _results(calculator, atoms)
    if atoms != given or atoms.info.keys() != given.info.keys():
        raise AssertionError(f"a calculation changes the structure {label(given)}")
    for name, value in results.items():
        shape = tuple(n if size is None else size for size in SHAPES.get(name, (6,)))
        if value.shape != shape:
            raise AssertionError(
                f"{name} of {label(atoms)}: expected shape {shape}, got {value.shape}"
            )
        assert_close(f"{name} of {label(atoms)}", value, value, 0.0)
    if "energies" in results:
        total = results["energies"].sum()
        assert_close(f"sum of atomic energies of {label(atoms)}", total, results["energy"], 1e-10)
    if "charges" in results:
        total, expected = results["charges"].sum(), np.array(atoms.info.get("charge", 0.0))
        assert_close(f"sum of charges of {label(atoms)}", total, expected, 1e-8)
    calculator.get_property("forces", atoms)[:] = np.nan
    calculator.reset()
    again = calculator.get_property("forces", atoms)
    assert_close(f"forces of {label(atoms)}, asked twice", again, results["forces"], 1e-6)


def _check_invariance(calculator: Calculator, atoms: Atoms, tolerance: float) -> None:
    """Translation, lattice vectors, order and O(3)."""
    rng = np.random.default_rng(len(atoms))
    before = _results(calculator, atoms)
    order = rng.permutation(len(atoms))
    images = rng.integers(-3, 4, (len(atoms), 3)) @ np.asarray(atoms.cell)
    for improper in (False, True):
        rotation = random_rotation(rng, improper)
        changed = atoms.copy()
        changed.positions += images + 0.1 * rng.normal(size=3)
        changed = rotated(changed[order], rotation)
        after = _results(calculator, changed)
        expected = {"energy": before["energy"], "forces": before["forces"][order] @ rotation.T}
        if "stress" in before:
            stress = rotation @ voigt_6_to_full_3x3_stress(before["stress"]) @ rotation.T
            expected["stress"] = full_3x3_to_voigt_6_stress(stress)
        for name in {"charges", "energies"} & set(before):
            expected[name] = before[name][order]
        if "dipole" in before and not atoms.pbc.any() and not atoms.info.get("charge", 0.0):
            expected["dipole"] = rotation @ before["dipole"]
        for name, value in expected.items():
            what = f"{name} of {label(atoms)}, moved, turned and in another order"
            assert_close(what, after[name], value, tolerance)


def _check_derivatives(calculator: Calculator, atoms: Atoms, tolerance: float, step: float) -> None:
    """Forces along one random direction and all of the stress, by four-point differences."""
    rng = np.random.default_rng(len(atoms))
    results = _results(calculator, atoms)
    direction = rng.normal(size=(len(atoms), 3))
    direction /= np.abs(direction).max()

    def slope(change: np.ndarray, strain: bool) -> float:
        energy = {}
        for k in (-2, -1, 1, 2):
            moved = strained(atoms, k * step * change) if strain else atoms.copy()
            moved.positions += 0.0 if strain else k * step * change
            energy[k] = float(calculator.get_property("energy", moved))
        return (8 * (energy[1] - energy[-1]) - (energy[2] - energy[-2])) / (12 * step)

    got, expected = slope(direction, strain=False), -(direction * results["forces"]).sum()
    scale = max(1.0, float(np.abs(results["forces"]).max()) * len(atoms) ** 0.5)
    what = f"slope of the energy of {label(atoms)} against its forces"
    assert_close(what, np.array(got / scale), np.array(expected / scale), tolerance)
    if "stress" not in results:
        return
    virial = results["stress"] * atoms.get_volume()
    scale = max(1.0, float(np.abs(virial).max()))
    for k, (a, b) in enumerate(VOIGT):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5
        strain[b, a] += 0.5
        what = f"slope of the energy of {label(atoms)} against its stress, component {k}"
        got = slope(strain, strain=True)
        try:
            assert_close(what, np.array(got / scale), np.array(virial[k] / scale), tolerance)
        except AssertionError as error:
            raise AssertionError(f"{error}{_notes(calculator)}") from None


def _notes(calculator: Calculator) -> str:
    """What the terms of a potential say of themselves, beside what went wrong."""
    potential = getattr(calculator, "potential", None)
    terms = [] if potential is None else [term for _, term in potential.named_terms()]
    notes = (term.note_for(term.config()) for term in terms)
    return "".join(f" ({note})" for note in notes if note)


def _check_charge_is_seen(calculator: Calculator, atoms: Atoms) -> None:
    """Another total charge is another system: old results must not be handed out for it.

    Molecules with charges of their own may refuse it.
    """
    if "charges" not in calculator.implemented_properties:
        return
    atoms = atoms.copy()
    for charge in (0.0, 1.0):
        atoms.info["charge"] = charge
        try:
            with warnings.catch_warnings():  # a charge that the molecules do not add up to
                warnings.simplefilter("ignore", HFFWarning)
                total = float(calculator.get_property("charges", atoms).sum())
        except StructureError:
            continue
        if abs(total - charge) > 1e-6:
            raise AssertionError(
                f"charges of {label(atoms)}: expected a sum of {charge} e, got {total:.6f} e"
            )


def _check_batched(
    calculator: Calculator,
    structures: list[Atoms],
    batched: list[dict[str, Any]],
    tolerance: float,
) -> None:
    """``evaluate`` of many structures gives what they give one by one."""
    for atoms, together in zip(structures, batched, strict=True):
        for name, value in _results(calculator, atoms).items():
            what = f"{name} of {label(atoms)}, in a batch and alone"
            assert_close(what, np.asarray(together[name]), value, tolerance)
