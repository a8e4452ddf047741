"""Labels far from those of the other frames: another unit, or a calculation that went wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from hff_ase.data.labels import result_of, source_of
from hff_ase.errors import StructureError

FAR = 5.0  # eV/atom from what most frames agree on: no thermal or chemical difference
NOTICEABLE = 0.1  # eV/atom; with the ratio of two units, this is already suspicious
BOUND = 30.0  # eV/atom, more than any solid's atoms are bound by
# RMS of most frames' labels that no condensed matter has; 1 eV/A^3 is 160 GPa, or 1.6 million bar.
LIMITS = {"forces": (100.0, "eV/A"), "stress": (1.0, "eV/A^3")}
# How many times larger a number in another unit is than one in eV, and which unit that suggests.
RATIOS = {
    1000.0: "meV instead of eV",
    1e-3: "keV instead of eV, or divided by 1000",
    23.0605: "kcal/mol instead of eV",
    1 / 23.0605: "eV converted from kcal/mol once too often",
    27.2114: "converted from Hartree once too often",
    1 / 27.2114: "Hartree instead of eV",
    13.6057: "converted from Rydberg once too often",
    1 / 13.6057: "Rydberg instead of eV",
    96.4853: "kJ/mol instead of eV",
    51.4221: "converted from Hartree/Bohr once too often",
    160.2177: "GPa instead of eV/A^3",
    1602.177: "kbar instead of eV/A^3",
    -1.0: "the opposite sign",
}


def check_energies(frames: Sequence[Atoms]) -> None:
    """Refuse energies far from a sum of element energies that fits most frames.

    The element energies minimise the sum of absolute residuals per atom, which a few wrong frames
    do not move. A composition that no other frame shares elements' ratios with fits itself, so
    that a wrong unit of all its frames cannot be seen here.

    Raises:
        StructureError: names the frame and the unit its energy might be in.
    """
    labelled = [atoms for atoms in frames if _finite_energy(atoms)]
    systems = [atoms for atoms in labelled if len(atoms) > 1]
    if len(systems) >= 3:
        _check_systems(systems)
    _check_isolated([atoms for atoms in labelled if len(atoms) == 1], systems)


def check_magnitudes(frames: Sequence[Atoms], name: str, unit: str, least: float) -> None:
    """Refuse forces or stresses more than 20 times the median, and of at least `least`.

    Small ones are not an error: forces of relaxed structures vanish.

    Raises:
        StructureError: names the frame and the unit its labels might be in.
    """
    labelled, sizes = _sizes(frames, name)
    if not sizes:
        return
    size, median = np.array(sizes), float(np.median(sizes))
    wrong = np.flatnonzero((size > 20.0 * median) & (size > least))
    if len(wrong):
        ratio = size[wrong[0]] / max(median, 1e-12)
        raise StructureError(
            f"expected {name} of the size of the other frames' (RMS {median:.3g} {unit}), got "
            f"{size[wrong[0]]:.3g}, about {ratio:.3g} times as much{_suggestion(ratio, 0.4)}, "
            f"in frame {_named(labelled, wrong)}"
        )


def check_limits(frames: Sequence[Atoms]) -> None:
    """Refuse forces and stresses that do not occur under ordinary conditions: another unit.

    Raises:
        StructureError: names the label and the units that it might be in.
    """
    for name, (limit, unit) in LIMITS.items():
        labelled, sizes = _sizes(frames, name)
        if sizes and float(np.median(sizes)) > limit:
            others = "GPa, kbar or bar" if name == "stress" else "meV/A or kJ/mol/nm"
            raise StructureError(
                f"expected {name} in {unit}, got RMS {float(np.median(sizes)):.3g} {unit} in the "
                f"median over {len(sizes)} frames (in {others}?); first: {source_of(labelled[0])}"
            )


def element_fractions(frames: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Elements (atomic numbers [n]) and their fractions in each frame [n_frames, n]."""
    numbers = np.unique(np.concatenate([atoms.numbers for atoms in frames]))
    counts = np.array([np.bincount(atoms.numbers, minlength=numbers[-1] + 1) for atoms in frames])
    return numbers, counts[:, numbers] / counts.sum(1, keepdims=True)


def robust_fit(design: np.ndarray, target: np.ndarray, n_iterations: int = 60) -> np.ndarray:
    """Coefficients [n] with the least sum of |design @ x - target|, by reweighted least squares."""
    weight = np.ones(len(target))
    scale = max(float(np.median(np.abs(target))), 1e-12)
    for _ in range(n_iterations):
        root = np.sqrt(weight)
        x = np.linalg.lstsq(design * root[:, None], target * root, rcond=1e-10)[0]
        weight = 1.0 / np.maximum(np.abs(design @ x - target), 1e-8 * scale)
        weight /= weight.max()
    return x


def _sizes(frames: Sequence[Atoms], name: str) -> tuple[list[Atoms], list[float]]:
    """Frames of more than one atom with such a label, and its RMS in each."""
    labelled, sizes = [], []
    for atoms in frames:
        value = result_of(atoms, name)
        if value is not None and len(atoms) > 1 and np.isfinite(value).all():
            labelled.append(atoms)
            sizes.append(float(np.sqrt(np.mean(np.square(value)))))
    return labelled, sizes


def _check_systems(systems: Sequence[Atoms]) -> None:
    energy = np.array([_energy(atoms) / len(atoms) for atoms in systems])
    fitted = _prediction(systems, energy)
    residual = np.abs(energy - fitted)
    spread = 1.4826 * float(np.median(residual))
    ratio = energy / np.where(np.abs(fitted) > 1e-6, fitted, np.nan)
    near_unit = np.array([bool(_suggestion(r, 0.03)) for r in ratio])
    suspicious = near_unit & (residual > max(NOTICEABLE, 20.0 * spread))
    wrong = np.flatnonzero(suspicious | (residual > max(FAR, 20.0 * spread)))
    if len(wrong):
        k = wrong[np.argmax(residual[wrong])]
        raise StructureError(
            f"expected an energy of about {fitted[k]:.3f} eV/atom (what the other frames say), got "
            f"{energy[k]:.6g} eV/atom, about {ratio[k]:.4g} times as much"
            f"{_suggestion(ratio[k], 0.1)}, in frame {_named(systems, wrong)}"
        )


def _prediction(systems: Sequence[Atoms], energy: np.ndarray) -> np.ndarray:
    """Energies per atom [n_systems] that a sum of element energies gives.

    One wrong frame must not decide about its own composition: where a composition has several
    frames, its median stands for all of them.
    """
    _, fractions = element_fractions(systems)
    rows, group = np.unique(fractions.round(9), axis=0, return_inverse=True)
    group = group.reshape(-1)
    medians = np.array([np.median(energy[group == k]) for k in range(len(rows))])
    return (fractions @ robust_fit(rows[group], medians[group])).reshape(-1)


def _check_isolated(atoms_alone: Sequence[Atoms], systems: Sequence[Atoms]) -> None:
    """Refuse isolated atoms whose energies leave the systems bound by far too much or too little.

    Atoms without charge only: an ion's energy is another one.
    """
    alone = {int(a.numbers[0]): a for a in atoms_alone if not a.info.get("charge")}
    complete = [a for a in systems if set(a.numbers.tolist()) <= set(alone)]
    if not complete:
        return
    own = np.zeros(max(alone) + 1)
    own[list(alone)] = [_energy(a) for a in alone.values()]
    bound = [(_energy(a) - own[a.numbers].sum()) / len(a) for a in complete]
    median = float(np.median(bound))
    if abs(median) > BOUND:
        names = ", ".join(f"{chemical_symbols[z]} {source_of(a)}" for z, a in alone.items())
        raise StructureError(
            "expected energies of isolated atoms of the same method and unit as the other frames', "
            f"got {median:.3g} eV/atom between them, with the isolated atoms {names}"
        )


def _suggestion(ratio: float, tolerance: float) -> str:
    """The unit that a ratio suggests; empty if no known one."""
    if not np.isfinite(ratio):
        return ""
    best = min(RATIOS, key=lambda known: abs(ratio / known - 1.0))
    return f" ({RATIOS[best]}?)" if abs(ratio / best - 1.0) < tolerance else ""


def _named(frames: Sequence[Atoms], wrong: np.ndarray) -> str:
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{source_of(frames[wrong[0]])}{more}"


def _energy(atoms: Atoms) -> float:
    return float(result_of(atoms, "energy"))


def _finite_energy(atoms: Atoms) -> bool:
    energy = result_of(atoms, "energy")
    return energy is not None and bool(np.isfinite(energy))
