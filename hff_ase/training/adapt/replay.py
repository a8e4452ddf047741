"""Replay: old frames added to the new ones, so that a model does not forget what it knew."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from hff_ase.batch import AtomsBatch
from hff_ase.data.frames import read_path
from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.training.adapt.dispersion import complete_labels
from hff_ase.training.adapt.elements import warn_unseen
from hff_ase.training.adapt_config import AdaptConfig, ReplayConfig

log = logging.getLogger(__name__)


def read_all(paths: Sequence[str | Path]) -> list[Atoms]:
    """The frames of several files and folders, in order.

    Raises:
        StructureError: one of them cannot be read.
    """
    return [atoms for path in paths for of_file in read_path(path) for atoms in of_file]


def replayed(replay: ReplayConfig, start: HybridPotential) -> list[Atoms]:
    """The old frames that are trained on again, weighted.

    Args:
        start: the model before it is changed, which labels them where ``labels`` is "model".

    Raises:
        StructureError: a file cannot be read.
        ConfigError: there are no frames.
    """
    frames = read_all(replay.frames)
    if not frames:
        raise ConfigError(f"expected frames to replay in {', '.join(replay.frames)}, got none")
    if replay.number is not None and replay.number < len(frames):
        chosen = np.linspace(0, len(frames) - 1, replay.number).round().astype(int)
        frames = [frames[k] for k in chosen]
    if replay.labels == "model":
        frames = [relabelled(atoms, start) for atoms in frames]
    for atoms in frames:
        atoms.info["weight"] = replay.weight * float(atoms.info.get("weight", 1.0))
    return frames


def relabelled(atoms: Atoms, potential: HybridPotential) -> Atoms:
    """A copy of a frame labelled by a model (energy, forces, stress, charges)."""
    given = potential(AtomsBatch.from_atoms(atoms, potential.known.device))
    if given.forces is None or given.stress is None:
        raise ConfigError("expected forces and stress from the model, got none")
    results = {"energy": float(given.energy[0]), "forces": given.forces.cpu().numpy()}
    if atoms.pbc.all():
        results["stress"] = full_3x3_to_voigt_6_stress(given.stress[0].cpu().numpy())
    if "charges" in given.fields:
        results["charges"] = given.fields["charges"].cpu().numpy()
    out = atoms.copy()
    # whatever dispersion the model has, its labels have
    out.info |= {"method": "the model before", "method_dispersion": "of the model"}
    out.calc = SinglePointCalculator(out, **results)
    return out


def training_frames(
    new: Sequence[Atoms], start: HybridPotential, potential: HybridPotential, adapt: AdaptConfig
) -> list[Atoms]:
    """What an adapted model is trained on: new and replayed frames, their dispersion in order.

    Args:
        start: the model before, potential: as `apply` made it.

    Raises:
        StructureError: frames to replay cannot be read.
    """
    old = [] if adapt.replay is None else replayed(adapt.replay, start)
    warn_unseen(adapt.add_elements, {int(z) for atoms in (*new, *old) for z in atoms.numbers})
    return complete_labels(without_isolated([*new, *old]), potential, adapt.dispersion)


def without_isolated(frames: Sequence[Atoms]) -> list[Atoms]:
    """The frames without isolated atoms, if there are others.

    Energies of a trained model have a zero of their own, so do those of labels; reference energies
    take up the difference in liquids, and then not for single atoms, whose errors of many eV would
    be all that is trained away.
    """
    larger = [atoms for atoms in frames if len(atoms) > 1]
    if not larger or len(larger) == len(frames):
        return list(frames)
    log.info("%d isolated atoms are left out of the training", len(frames) - len(larger))
    return larger
