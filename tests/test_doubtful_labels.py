"""Labels that are wrong in all frames alike, and held-out frames that are trained on."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from conftest import make_potential

from hff_ase import HybridFF
from hff_ase.data import check_frames
from hff_ase.data.agreement import check_agreement
from hff_ase.data.doubts import doubts, leak
from hff_ase.errors import HFFWarning, StructureError
from hff_ase.training import TrainConfig
from hff_ase.training.pipeline import prepare

Change = Callable[[Atoms, dict[str, np.ndarray]], None]


def labelled(n: int = 20, change: Change | None = None) -> list[Atoms]:
    """Displaced methanol and ethane, EMT's energies and forces changed alike in all frames."""
    frames = []
    for k in range(n):
        atoms = molecule(("CH3OH", "C2H6")[k % 2])
        atoms.rattle(0.02, seed=k)
        calc = EMT()
        results = {"energy": calc.get_potential_energy(atoms), "forces": calc.get_forces(atoms)}
        if change is not None:
            change(atoms, results)
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["source"] = f"frames:{k}"
        frames.append(atoms)
    return frames


def scaled(name: str, factor: float) -> Change:
    def change(atoms: Atoms, results: dict[str, np.ndarray]) -> None:
        results[name] = results[name] * factor

    return change


def per_atom(atoms: Atoms, results: dict[str, np.ndarray]) -> None:
    results["energy"] = results["energy"] / len(atoms)


@pytest.mark.parametrize(
    ("change", "meaning"),
    [
        (scaled("forces", -1.0), "the sign of the gradient"),
        (scaled("forces", 1 / 51.4221), "forces in Hartree/Bohr"),
        (scaled("forces", 23.0605), "forces in kcal/mol/A"),
        (scaled("energy", 1 / 27.2114), "energies in Hartree"),
        (per_atom, "energies per atom"),
    ],
)
def test_forces_of_another_unit_or_sign_than_all_energies(change: Change, meaning: str) -> None:
    check_frames(labelled())
    with pytest.raises(StructureError, match=f"minus the gradient.*{meaning}.*frames:0 and"):
        check_frames(labelled(change=change))


def test_frames_far_apart_or_noisy_say_nothing() -> None:
    rng = np.random.default_rng(0)

    def noise(atoms: Atoms, results: dict[str, np.ndarray]) -> None:
        forces = rng.normal(size=(len(atoms), 3))
        results["forces"] = forces - forces.mean(0)

    check_frames(labelled(change=noise))
    apart = labelled(change=scaled("forces", -1.0))
    for k, atoms in enumerate(apart):
        atoms.rotate(30 * k, "z")  # no more than the same molecule elsewhere
    check_frames(apart)


def boxes(stress: float) -> list[Atoms]:
    frames = labelled(6)
    rng = np.random.default_rng(1)
    for atoms in frames:
        results = atoms.calc.results | {"stress": stress * rng.normal(size=6)}
        atoms.set_cell([8.0] * 3)
        atoms.pbc = True
        atoms.calc = SinglePointCalculator(atoms, **results)
    return frames


def test_a_stress_that_no_matter_has() -> None:
    check_frames(boxes(0.02))
    with pytest.raises(StructureError, match=r"stress in eV/A\^3, got RMS .*GPa, kbar or bar"):
        check_frames(boxes(0.02 * 160.2177))


def test_zeros_net_forces_and_lost_charges_are_said() -> None:
    assert doubts(labelled()) == []
    zeros = labelled()
    for atoms in zeros[:3]:
        atoms.calc.results["forces"] = np.zeros((len(atoms), 3))
    assert "forces are zero in 3 of 20 frames (first: frames:0)" in doubts(zeros)[0]
    pushed = labelled()
    pushed[4].calc.results["forces"] = pushed[4].calc.results["forces"] + 0.2
    assert "do not sum to zero in 1 of 20 frames (first: frames:4" in doubts(pushed)[0]
    ions = [Atoms("Li") + atoms for atoms in labelled(2)]
    ions[0].positions[0] -= 3.0
    ions[1].positions[0] -= 3.0
    ions[1].info["charge"] = 1
    ions[0].calc = SinglePointCalculator(ions[0], energy=-1.0)
    (message,) = doubts([ions[0], ions[1]])
    assert message.startswith("in 1 frames")
    assert "expected the total charge of the molecules, 1 e" in message


def test_validation_frames_that_are_trained_on() -> None:
    frames = labelled()
    assert leak(frames[:4], frames[4:], "validation") is None
    again = [atoms.copy() for atoms in frames[:3]]
    message = leak([*again, *frames[10:13]], frames[:10], "validation")
    assert str(message).startswith("3 of 6 validation frames are also trained on (first:")
    alone = [Atoms("H"), Atoms("O")]
    assert leak(alone, alone, "validation") is None
    config = TrainConfig.model_validate(
        {
            "model": {"elements": ["H", "C", "O"], "terms": {"wall": {"kind": "zbl"}}},
            "schedule": {"steps": 1},
        }
    )
    with pytest.warns(HFFWarning, match="3 of 3 validation frames"):
        prepare(config, frames=(frames, again_with_labels(frames[:3])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(config, frames=(frames[3:], again_with_labels(frames[:3])))


def again_with_labels(frames: list[Atoms]) -> list[Atoms]:
    copies = [atoms.copy() for atoms in frames]
    for copy, atoms in zip(copies, frames, strict=True):
        copy.calc = SinglePointCalculator(copy, **atoms.calc.results)
    return copies


def test_our_own_labels_agree() -> None:
    """Forces of this package are minus the gradient: its labels pass."""
    calc, frames = HybridFF(make_potential()), labelled(16)
    for atoms, results in zip(frames, calc.evaluate(frames), strict=True):
        atoms.calc = SinglePointCalculator(
            atoms, energy=results["energy"], forces=results["forces"]
        )
    check_frames(frames)


def test_stiff_bonds_are_no_wrong_unit() -> None:
    """Far distorted, energies may change by 1.25 times the work of the mean force: no unit."""
    frames = [molecule(("CH3OH", "H2CO", "CH3CH2OH")[k % 3]) for k in range(30)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=k)
        forces = -2.0 * 1.25 * atoms.positions
        energy = 1.25 * 1.25 * float((atoms.positions**2).sum())
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    check_agreement(frames)
