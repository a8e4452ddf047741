"""Training a model further on other frames, or the same terms on them from the beginning."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from hff_ase.calculators.finetune.run import Run
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.checkpoint import ModelInfo
from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.terms import TERMS
from hff_ase.training.adapt import (
    AdaptConfig,
    adapt_references,
    apply,
    complete_labels,
    make_config,
    refit_references,
    set_trainable,
    training_frames,
)
from hff_ase.training.adapt.replay import read_all, without_isolated
from hff_ase.training.config import TrainConfig
from hff_ase.training.loop.trainer import StopSource

Frames = Sequence[Atoms] | str | Path
# Fine-tuning starts near where it ends: smaller steps than a training from random weights.
DEFAULTS: dict[str, Any] = {
    "schedule": {"epochs": 50, "warmup": 100},
    "optimizer": {"learning_rate": 5e-4},
    "ema": {"decay": 0.99},  # of a short run
}
FROM_SCRATCH: dict[str, Any] = {"optimizer": {"learning_rate": 2e-3}}
N_REFERENCES = 2  # structures whose results are stored with the model


def finetune(
    calc: HybridFF | str | Path,
    frames: Frames,
    *,
    adapt: AdaptConfig | Mapping[str, Any] | None = None,
    validation: Frames | None = None,
    settings: TrainConfig | Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    name: str | None = None,
    stop: StopSource | None = None,
) -> HybridFF:
    """Train a model further; the calculator that is given stays as it is.

    Args:
        calc: a calculator, a shipped model's name, or an .hff file.
        frames: labelled frames, a file or a folder.
        adapt: what is frozen, added and replayed (`AdaptConfig`).
        validation: labelled frames that are not trained on.
        settings: of the training (`TrainConfig`, without ``model`` and ``data``).
        output: folder for the log, the state of the training and ``model.hff``. Without one
            nothing is kept.
        resume: go on with the run in the output folder.
        name: of the new model.
        stop: asked after every step whether a signal wants the run to stop.

    Returns:
        A calculator on the same device, in the same precision; low-rank updates are merged.

    Raises:
        ConfigError: settings that do not fit the model, or an output folder that holds a run
            already (to resume: another one).
        StructureError: frames that cannot be read, or hold elements that the model does not know.
    """
    start = calc if isinstance(calc, HybridFF) else HybridFF.load(calc)
    chosen = make_config(adapt)
    config = training_config(settings, start)
    new = read(frames)
    potential = apply(start.potential, chosen, config.seed)
    labelled = training_frames(new, start.potential, potential, chosen)
    held_out = complete_labels(read(validation), potential, chosen.dispersion)
    run = Run(potential, labelled, held_out, config, output, resume, stop)
    trained = run(lambda part, data: adapt_references(part, data, chosen), chosen)
    info = ModelInfo(
        name or f"{start.info.name}-finetuned",
        f"fine-tuned from {start.info.name}: {start.info.description}".rstrip(": "),
        start.info.licence,
        start.info.provenance,
        tuple(name for name, _ in trained.named_terms()),
        {
            "start": {"name": start.info.name, "details": start.info.details},
            "adapt": chosen.model_dump(mode="json", exclude_defaults=True),
            "settings": config.model_dump(mode="json", exclude={"output", "model", "data"}),
            "frames": {"new": len(new), "replayed": len(labelled) - len(new)},
        },
    )
    return _finished(trained, info, start, labelled, output)


def train_from_scratch(
    calc: HybridFF | str | Path,
    frames: Frames,
    *,
    dispersion: str = "auto",
    validation: Frames | None = None,
    settings: TrainConfig | Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    stop: StopSource | None = None,
) -> HybridFF:
    """Train a model with the terms of another one, from random weights, on some frames.

    Arguments, results and errors are those of `finetune`, ``dispersion`` that of `AdaptConfig`.
    Reference energies are fitted first.
    """
    start = calc if isinstance(calc, HybridFF) else HybridFF.load(calc)
    config = training_config(settings, start, FROM_SCRATCH)
    potential = fresh(start.potential, config.seed)
    labelled = complete_labels(without_isolated(read(frames)), potential, dispersion)
    held_out = complete_labels(read(validation), potential, dispersion)
    run = Run(potential, labelled, held_out, config, output, resume, stop)
    trained = run(lambda part, data: refit_references(part, data))
    info = ModelInfo(
        f"{start.info.name}-from-scratch",
        f"the terms of {start.info.name}, trained from random weights",
        trained_with=tuple(name for name, _ in trained.named_terms()),
        details={"settings": config.model_dump(mode="json", exclude={"output", "model", "data"})},
    )
    return _finished(trained, info, start, labelled, output)


def training_config(
    settings: TrainConfig | Mapping[str, Any] | None,
    start: HybridFF,
    more: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Settings of a training over the defaults of fine-tuning; precision and device of a model.

    Raises:
        ConfigError: settings that make no sense, or a model or data among them.
    """
    if isinstance(settings, TrainConfig):
        return settings
    given = copy.deepcopy(dict(settings or {}))
    for key in ("model", "data", "output"):
        if given.get(key) is not None:
            raise ConfigError(f"expected training settings without {key!r}, which is given apart")
    defaults = _over(DEFAULTS, more or {})
    defaults["precision"] = {"networks": start.dtype, "device": str(start.device)}
    schedule = given.get("schedule") or {}
    if {"steps", "by"} & set(schedule):  # another way to say how long
        del defaults["schedule"]["epochs"]
    return TrainConfig(**_over(defaults, given))


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, of which those above count where both are given."""
    out = copy.deepcopy(dict(below))
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = _over(out[key], value) if both else value
    return out


def fresh(potential: HybridPotential, seed: int) -> HybridPotential:
    """The same terms with random weights, everything trainable that is by design."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        terms = {name: TERMS[t.kind](**t.config()) for name, t in potential.named_terms()}
    out = potential.with_terms(terms)
    set_trainable(out, ())
    return out.train()


def read(frames: Frames | None) -> list[Atoms]:
    if frames is None:
        return []
    return read_all([frames]) if isinstance(frames, (str, Path)) else list(frames)


def _finished(
    potential: HybridPotential,
    info: ModelInfo,
    start: HybridFF,
    frames: Sequence[Atoms],
    output: str | Path | None,
) -> HybridFF:
    """A calculator as the one it comes from, saved where there is a folder."""
    options: dict[str, Any] = {
        "dtype": start.dtype,
        "skin": start.skin,
        "kernels": start.potential.kernels,
    }
    calc = HybridFF(potential, info, device="cpu", **options)
    if output is not None:
        smallest = sorted(frames, key=lambda atoms: (len(atoms) == 1, len(atoms)))
        calc.save(Path(output) / "model.hff", smallest[:N_REFERENCES])
    if start.device.type == "cpu":
        return calc
    return HybridFF(potential, info, device=str(start.device), **options)
