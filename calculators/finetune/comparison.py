"""From scratch, as is, fine-tuned: errors of the three on frames that none was trained on."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from hff_ase.calculators.finetune.finetune import Frames, finetune, read, train_from_scratch
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.data.dataset import MemoryDataset
from hff_ase.data.doubts import leak
from hff_ase.data.labels import to_device
from hff_ase.errors import ConfigError, HFFWarning
from hff_ase.files import write_whole
from hff_ase.potential import HybridPotential
from hff_ase.training.adapt import AdaptConfig, complete_labels
from hff_ase.training.adapt.replay import read_all
from hff_ase.training.config import TrainConfig
from hff_ase.training.loop.trainer import StopSource
from hff_ase.training.losses import differences
from hff_ase.units import BAR

# Rows of the table: key -> (what it says, factor)
ROWS: dict[str, tuple[str, float]] = {
    "energy": ("energy (meV/atom)", 1e3),
    "energy_shifted": ("energy, mean error removed (meV/atom)", 1e3),
    "forces": ("forces (meV/A)", 1e3),
    "stress": ("stress (bar)", 1.0 / BAR),
    "charges": ("charges (me)", 1e3),
    "dipole": ("dipole (me A)", 1e3),
    "esp": ("electrostatic potential (mV)", 1e3),
}
COLUMNS = ("from scratch", "as is", "fine-tuned")


@dataclass(frozen=True)
class Comparison:
    """Errors of several models on the same frames.

    Attributes:
        errors: column -> {property: root mean square error, ASE's units}.
        n_frames: tested on.
        models: column -> calculator.
    """

    errors: dict[str, dict[str, float]]
    n_frames: int
    models: dict[str, HybridFF] = field(default_factory=dict)

    def markdown(self) -> str:
        """The table; a dash where a model or the labels lack the property."""
        names = list(self.errors)
        lines = [
            f"RMSE on {self.n_frames} frames | " + " | ".join(names),
            " | ".join(["---"] * (len(names) + 1)),
        ]
        for key, (label, factor) in ROWS.items():
            values = [self.errors[name].get(key) for name in names]
            if any(value is not None for value in values):
                cells = ["-" if v is None else f"{factor * v:.4g}" for v in values]
                lines.append(f"{label} | " + " | ".join(cells))
        return "\n".join(f"| {line} |" for line in lines) + "\n"

    def write(self, folder: str | Path) -> None:
        """``comparison.md`` and ``comparison.json`` in a folder."""
        text = json.dumps({"n_frames": self.n_frames, "rmse": self.errors}, indent=1) + "\n"
        write_whole(Path(folder) / "comparison.md", self.markdown().encode())
        write_whole(Path(folder) / "comparison.json", text.encode())


def compare(
    calc: HybridFF | str | Path,
    frames: Frames,
    test: Frames,
    *,
    from_scratch: bool = True,
    adapt: AdaptConfig | Mapping[str, Any] | None = None,
    validation: Frames | None = None,
    settings: TrainConfig | Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    stop: StopSource | None = None,
) -> Comparison:
    """Fine-tune a model; compare it with the original and with the same terms from scratch.

    Args:
        calc, frames, adapt, validation, settings: as in `finetune`; all trainings have the same
            settings, but for a learning rate that is not given.
        test: labelled frames that nothing is trained on.
        from_scratch: train from random weights as well.
        output: folder for the tables and, in separate folders, both trainings.
        resume: continue with what is in these folders.
        stop: asked after every step whether a signal wants the run to stop.

    Raises:
        ConfigError: no test frames, or as `finetune`.
        StructureError: as `finetune`.
    """
    start = calc if isinstance(calc, HybridFF) else HybridFF.load(calc)
    chosen = AdaptConfig.load(adapt)
    tested = read_all([test]) if isinstance(test, (str, Path)) else list(test)
    if not tested:
        raise ConfigError("expected frames to test on, got none")
    frames = read(frames)
    if message := leak(tested, frames, "test"):
        warnings.warn(message, HFFWarning, stacklevel=2)
    folders: dict[str, Path | None] = {"from_scratch": None, "finetuned": None}
    if output is not None:
        wanted = ("from_scratch", "finetuned") if from_scratch else ("finetuned",)
        folders |= {name: Path(output) / name for name in wanted}
        for folder in filter(None, folders.values()):
            folder.mkdir(parents=True, exist_ok=True)
    common: dict[str, Any] = {
        "validation": validation,
        "settings": settings,
        "resume": resume,
        "stop": stop,
    }
    tuned = finetune(start, frames, adapt=chosen, output=folders["finetuned"], **common)
    models = {"as is": start, "fine-tuned": tuned}
    if from_scratch:
        # the fine-tuned model knows new elements and heads
        models["from scratch"] = train_from_scratch(
            tuned,
            frames,
            dispersion=chosen.dispersion,
            output=folders["from_scratch"],
            **common,
        )
    models = {name: models[name] for name in COLUMNS if name in models}
    errors = {
        name: rmse(model.potential, tested, chosen.dispersion) if _knows(model, tested) else {}
        for name, model in models.items()
    }
    comparison = Comparison(errors, len(tested), models)
    if output is not None:
        comparison.write(output)
    return comparison


def rmse(
    potential: HybridPotential, frames: Sequence[Atoms], dispersion: str = "auto"
) -> dict[str, float]:
    """Root mean square errors per property, energies per atom, ASE's units."""
    found: dict[str, list[torch.Tensor]] = {}
    data = MemoryDataset.from_atoms(complete_labels(frames, potential, dispersion, quiet=True))
    for frame in data.frames:
        batch, labels = to_device(frame, potential.known.device)
        for name, (error, _) in differences(batch, potential(batch), labels).items():
            found.setdefault(name, []).append(error.detach().reshape(-1).cpu())
    errors = {name: torch.cat(parts) for name, parts in found.items()}
    if "energy" in errors:
        errors["energy_shifted"] = errors["energy"] - errors["energy"].mean()
    return {name: math.sqrt(float(error.square().mean())) for name, error in errors.items()}


def _knows(model: HybridFF, frames: Sequence[Atoms]) -> bool:
    """Whether a model knows all elements of some frames (it is not tested on a part of them)."""
    numbers = torch.as_tensor(np.concatenate([atoms.numbers for atoms in frames]))
    return bool(model.potential.known.cpu()[numbers].all())
