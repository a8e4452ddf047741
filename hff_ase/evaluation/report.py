"""Errors of a model on labelled frames: per property, element, system and energy term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.data import atomic_numbers, chemical_symbols

from hff_ase.data.labels import source_of
from hff_ase.evaluation.predictions import Prediction, predictions
from hff_ase.potential import HybridPotential
from hff_ase.units import BAR

PROPERTIES = ("energy", "forces", "stress", "pressure", "charges", "dipole", "esp")
OTHER_REFERENCE = 0.05  # eV/atom; a model that is 50 meV/atom off is of no use or of another zero
MISSING = np.zeros(0)


@dataclass(frozen=True)
class Statistics:
    """How far predictions are from labels.

    Attributes:
        n: numbers compared.
        rmse, mae, bias, largest: root mean square, mean absolute, mean and largest error.
        label_rms: root mean square of the labels (energies: about the mean of their system).
    """

    n: int
    rmse: float
    mae: float
    bias: float
    largest: float
    label_rms: float


@dataclass
class Samples:
    """Predicted and labelled numbers of one property, flat, in ASE's units.

    Attributes:
        predicted, label: float64 [m].
        frame: int64 [m], which frame each is of.
        element: int64 [m], atomic number, 0 where it belongs to no atom.
    """

    predicted: np.ndarray = field(default_factory=lambda: np.zeros(0))
    label: np.ndarray = field(default_factory=lambda: np.zeros(0))
    frame: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    element: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def error(self) -> np.ndarray:
        """Prediction less label [m]."""
        return self.predicted - self.label


@dataclass
class Errors:
    """Errors of a model on frames.

    Attributes:
        samples: per property (eV/atom, eV/A, eV/A^3, bar, e, e A, V).
        systems: the system of each frame: ``info["system"]``, its file, or, where all frames are
            of one file, its composition.
        terms: energy of each term per atom [n_frames], eV.
        term_errors: errors of terms that have labels (``info["energy_<term>"]``), eV/atom.
        element_shift: what was added to the energy of each element (eV), where that was asked for.
        rmse_with_shift: of the energies, eV/atom, with the shift that was not asked for; None where
            it was, and without more energies than elements.
    """

    samples: dict[str, Samples]
    systems: list[str]
    terms: dict[str, np.ndarray] = field(default_factory=dict)
    term_errors: dict[str, Samples] = field(default_factory=dict)
    element_shift: dict[str, float] = field(default_factory=dict)
    rmse_with_shift: float | None = None

    @property
    def other_reference(self) -> bool:
        """Whether most of the energy error looks like a shift of the zero of energy per element."""
        after, before = self.rmse_with_shift, self.rmse("energy")
        return after is not None and before > OTHER_REFERENCE and before > 5 * after

    @property
    def properties(self) -> list[str]:
        """Properties that were both predicted and labelled."""
        return [name for name in PROPERTIES if name in self.samples]

    @property
    def elements(self) -> list[str]:
        """Elements with errors of their own, by atomic number."""
        found = [s.element for s in self.samples.values()]
        numbers = np.unique(np.concatenate(found)) if found else MISSING
        return [chemical_symbols[int(z)] for z in numbers if z > 0]

    def rmse(self, name: str, *, element: str | None = None, system: str | None = None) -> float:
        """Root mean square error; NaN where nothing was compared."""
        return self.statistics(name, element=element, system=system).rmse

    def mae(self, name: str, *, element: str | None = None, system: str | None = None) -> float:
        """Mean absolute error; NaN where nothing was compared."""
        return self.statistics(name, element=element, system=system).mae

    def bias(self, name: str, *, element: str | None = None, system: str | None = None) -> float:
        """Mean error; NaN where nothing was compared."""
        return self.statistics(name, element=element, system=system).bias

    def statistics(
        self, name: str, *, element: str | None = None, system: str | None = None
    ) -> Statistics:
        """Errors of a property, of all frames or those of one element or system."""
        samples = self.samples.get(name, Samples())
        mine = np.ones(len(samples.label), dtype=bool)
        if element is not None:
            mine &= samples.element == atomic_numbers[element]
        if system is not None:
            mine &= np.array(self.systems)[samples.frame] == system
        centre = self.system_means(name) if name == "energy" else None
        return statistics(samples, mine, centre)

    def system_means(self, name: str) -> np.ndarray:
        """The mean label of each sample's system [m]."""
        samples = self.samples.get(name, Samples())
        _, group = np.unique(np.array(self.systems)[samples.frame], return_inverse=True)
        return (np.bincount(group, samples.label) / np.bincount(group))[group]

    def scatter(self, name: str, system: str) -> float:
        """Standard deviation of the error within a system, without a constant offset."""
        samples = self.samples.get(name, Samples())
        mine = np.array(self.systems)[samples.frame] == system if len(samples.frame) else MISSING
        return float(np.std(samples.error[mine.astype(bool)])) if mine.any() else float("nan")


def collect(
    model: HybridPotential | BaseCalculator,
    frames: Sequence[Atoms],
    *,
    reference_shift: bool = False,
) -> Errors:
    """Errors of a potential or of any ASE calculator on labelled frames.

    Args:
        model: see `predictions`.
        frames: with labels in their calculators' results.
        reference_shift: fit an energy per element to the errors of the energies and take it off:
            for a model whose zero of energy is another.

    Raises:
        StructureError: a frame cannot be evaluated; names it.
    """
    parts: dict[str, list[Samples]] = {}
    terms: dict[str, list[np.ndarray]] = {}
    first = 0
    for prediction in predictions(model, frames):
        for name, samples in _samples(prediction, first).items():
            parts.setdefault(name, []).append(samples)
        counts = prediction.batch.counts.numpy()
        for name, energy in prediction.terms.items():
            terms.setdefault(name, []).append(energy / counts)
        first += len(prediction.frames)
    found = {name: _joined(of_chunks) for name, of_chunks in parts.items()}
    shift: dict[str, float] = {}
    after: float | None = None
    if reference_shift and "energy" in found:
        shift = _shift_energies(found["energy"], frames)
    elif "energy" in found and len(found["energy"].label) > len(_numbers(frames)):
        trial = replace(found["energy"])
        _shift_energies(trial, frames)
        after = float(np.sqrt(np.mean(trial.error**2)))
    joined = {name: np.concatenate(of_chunks) for name, of_chunks in terms.items()}
    return Errors(found, systems_of(frames), joined, _term_errors(frames, joined), shift, after)


def statistics(samples: Samples, mine: np.ndarray, centre: np.ndarray | None = None) -> Statistics:
    """Statistics of some of the samples, labels taken about `centre`; NaN if there are none."""
    error = samples.error[mine]
    label = (samples.label if centre is None else samples.label - centre)[mine]
    if not len(error):
        return Statistics(0, *[float("nan")] * 5)
    return Statistics(
        n=len(error),
        rmse=float(np.sqrt(np.mean(error**2))),
        mae=float(np.mean(np.abs(error))),
        bias=float(np.mean(error)),
        largest=float(np.abs(error).max()),
        label_rms=float(np.sqrt(np.mean(label**2))),
    )


def systems_of(frames: Sequence[Atoms]) -> list[str]:
    """The system that each frame belongs to."""
    files = [source_of(atoms).rsplit(":", 1)[0] for atoms in frames]
    if len(set(files)) == 1:
        files = [atoms.symbols.formula.format("hill") for atoms in frames]
    return [str(atoms.info.get("system", name)) for atoms, name in zip(frames, files, strict=True)]


def _samples(prediction: Prediction, first: int) -> dict[str, Samples]:
    """Flat samples of each property; `first` is the index of the chunk's first frame."""
    batch, labels, values = prediction.batch, prediction.labels, prediction.values
    counts, system = batch.counts.numpy(), batch.system.numpy()
    frames = np.arange(batch.n_systems)
    rows = {
        "energy": (labels.energy.numpy() / counts, frames, None),
        "forces": (labels.forces.numpy(), system, batch.numbers.numpy()),
        "stress": (labels.stress.numpy(), frames, None),
        "charges": (labels.charges.numpy(), system, batch.numbers.numpy()),
        "dipole": (labels.dipole.numpy(), frames, None),
        "esp": (labels.esp.numpy(), labels.esp_system.numpy(), None),
    }
    values = {**values, "energy": values["energy"] / counts} if "energy" in values else values
    if "stress" in values:
        rows["pressure"] = (_pressure(labels.stress.numpy()), frames, None)
        values = {**values, "pressure": _pressure(values["stress"])}
    found = {}
    for name, (label, frame, element) in rows.items():
        if name not in values:
            continue
        width = int(np.prod(label.shape[1:]))
        flat, predicted = label.reshape(-1), values[name].reshape(-1)
        keep = np.isfinite(flat)
        if not keep.any():
            continue
        element = np.zeros(len(label), dtype=np.int64) if element is None else element
        found[name] = Samples(
            predicted[keep],
            flat[keep],
            np.repeat(frame + first, width)[keep],
            np.repeat(element, width)[keep],
        )
    return found


def _pressure(stress: np.ndarray) -> np.ndarray:
    """-trace/3 in bar [n_systems]."""
    return -np.trace(stress, axis1=1, axis2=2) / 3.0 / BAR


def _joined(parts: Sequence[Samples]) -> Samples:
    names = ("predicted", "label", "frame", "element")
    return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _numbers(frames: Sequence[Atoms]) -> np.ndarray:
    """The elements of some frames."""
    return np.unique(np.concatenate([atoms.numbers for atoms in frames]))


def _shift_energies(samples: Samples, frames: Sequence[Atoms]) -> dict[str, float]:
    """Add to the predictions the element energies that bring them nearest to the labels."""
    numbers = _numbers(frames)
    fractions = np.array(
        [[np.mean(frames[k].numbers == z) for z in numbers] for k in samples.frame.tolist()]
    )
    shift = np.linalg.lstsq(fractions, -samples.error, rcond=1e-8)[0]
    samples.predicted = samples.predicted + fractions @ shift
    return {chemical_symbols[int(z)]: float(e) for z, e in zip(numbers, shift, strict=True)}


def _term_errors(frames: Sequence[Atoms], terms: dict[str, np.ndarray]) -> dict[str, Samples]:
    """Errors of the terms whose energy some frames are labelled with."""
    out = {}
    for name, predicted in terms.items():
        key = f"energy_{name}"
        mine = np.array([k for k, atoms in enumerate(frames) if key in atoms.info], dtype=np.int64)
        if len(mine):
            label = np.array([float(frames[k].info[key]) / len(frames[k]) for k in mine])
            out[name] = Samples(predicted[mine], label, mine, np.zeros_like(mine))
    return out
