"""Refusing labelled frames that are broken, before anything is trained on them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress
from vesin import NeighborList

from hff_ase.data.agreement import check_agreement
from hff_ase.data.doubts import doubts
from hff_ase.data.labels import labels_of, result_of, source_of
from hff_ase.data.outliers import check_energies, check_limits, check_magnitudes
from hff_ase.errors import HFFWarning, StructureError
from hff_ase.structures import check_structure, total_charge

CLOSEST = 0.3  # Angstrom: nuclei nearer than this are not a configuration
SEARCHED = 2.0  # Angstrom; a search within less divides the box into a great many cells
CHARGE_MISMATCH = 0.1  # e: more than rounding leaves in the sum of a box's charges
LABELS = ("energy", "forces", "stress", "charges", "dipole")


def check_frames(frames: Sequence[Atoms]) -> None:
    """Refuse broken frames and labels, and labels in another unit than those of other frames.

    Each frame alone: structure, overlapping atoms, shapes of labels, NaN or infinity inside a
    label, charges that do not sum to the total charge, a stress with the sign of the virial. All
    together: energies far from the sum of element energies that fits most frames, forces and
    stresses of another order of magnitude, forces of another unit or sign than the energies. A
    label that is NaN as a whole is a missing one. What is doubtful only is reported in a warning.

    Raises:
        StructureError: names the frame (``info["source"]``), what is wrong, and the unit that it
            might be in.
    """
    if not frames:
        raise StructureError("expected labelled frames, got none")
    for atoms in frames:
        _check_frame(atoms)
    if not any(result_of(atoms, name) is not None for atoms in frames for name in LABELS):
        raise StructureError(
            f"expected labels ({', '.join(LABELS)}) in the frames' results, got none; first frame: "
            f"{source_of(frames[0])}, info: {sorted(set(frames[0].info) - {'source'})}"
        )
    check_energies(frames)
    check_magnitudes(frames, "forces", "eV/A", least=15.0)
    check_magnitudes(frames, "stress", "eV/A^3", least=1.0)
    check_limits(frames)
    check_agreement(frames)
    for message in doubts(frames):
        warnings.warn(message, HFFWarning, stacklevel=2)


def check_dataset_metadata(frames: Sequence[Atoms]) -> dict[str, int]:
    """How many frames were labelled with which method (``info["method"]``, "unknown" where absent).

    Energies of several methods have no common zero.
    """
    return dict(Counter(str(atoms.info.get("method", "unknown")) for atoms in frames))


def _check_frame(atoms: Atoms) -> None:
    place = f" in frame {source_of(atoms)}" if isinstance(atoms, Atoms) else ""
    check_structure(atoms, place)
    _check_overlap(atoms, place)
    labels_of([atoms])  # shapes
    for name in LABELS:
        value = result_of(atoms, name)
        if value is None:
            continue
        finite = np.isfinite(np.asarray(value, dtype=np.float64))
        if not finite.all() and (finite.any() or np.isinf(value).any()):
            row = int(np.argmin(finite.reshape(len(finite), -1).all(1))) if finite.ndim else 0
            got = np.asarray(value).reshape(-1)[~finite.reshape(-1)][0]
            what = f" for atom {row}" if name in ("forces", "charges") else ""
            raise StructureError(f"expected finite {name}, got {got}{what}{place}")
    _check_charges(atoms, place)
    _check_stress_sign(atoms, place)


def _check_overlap(atoms: Atoms, place: str) -> None:
    search = NeighborList(cutoff=SEARCHED, full_list=False)
    i, j, distance = search.compute(
        points=atoms.positions,
        box=np.asarray(atoms.cell) if atoms.pbc.any() else np.eye(3),
        periodic=bool(atoms.pbc.any()),
        quantities="ijd",
    )
    pair = int(np.argmin(distance)) if len(distance) else -1
    if pair >= 0 and distance[pair] < CLOSEST:
        raise StructureError(
            f"expected atoms at least {CLOSEST:g} A apart, got {distance[pair]:.2f} A between "
            f"atoms {int(i[pair])} and {int(j[pair])}{place}"
        )


def _check_charges(atoms: Atoms, place: str) -> None:
    charges = result_of(atoms, "charges")
    if charges is None or np.isnan(charges).all():
        return
    total, given = float(np.sum(charges)), total_charge(atoms)
    if abs(total - given) > CHARGE_MISMATCH:
        raise StructureError(
            f"expected charges that sum to atoms.info['charge'] = {given:g} e, got {total:.3f} e"
            f"{place}"
        )


def _check_stress_sign(atoms: Atoms, place: str) -> None:
    virial, stress = atoms.info.get("virial"), result_of(atoms, "stress")
    if virial is None or stress is None or not atoms.pbc.all() or np.size(virial) != 9:
        return
    expected = -np.asarray(virial, dtype=np.float64).reshape(3, 3) / atoms.get_volume()
    voigt = np.asarray(stress, dtype=np.float64)
    voigt = full_3x3_to_voigt_6_stress(voigt) if voigt.shape == (3, 3) else voigt
    expected = full_3x3_to_voigt_6_stress(expected)
    tolerance = 1e-2 * np.abs(expected).max()
    if np.abs(voigt + expected).max() < tolerance:
        raise StructureError(
            "expected stress = -virial/V (ASE's sign: negative under compression), got "
            f"+virial/V{place}"
        )
