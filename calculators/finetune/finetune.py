"""Training a model further on other frames, or the same terms from scratch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from ase import Atoms
from ase.data import chemical_symbols

from hff_ase.calculators.finetune.train import calculator_of
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.errors import ConfigError
from hff_ase.potential import HybridPotential
from hff_ase.settings import Given
from hff_ase.training.adapt import AdaptConfig
from hff_ase.training.adapt.replay import read_all, without_isolated
from hff_ase.training.config import FINETUNING, DataSection, ModelSection, TrainConfig
from hff_ase.training.frames_of import Split
from hff_ase.training.loop.trainer import StopSource
from hff_ase.training.model import Start
from hff_ase.training.pipeline import run

Frames = Sequence[Atoms] | str | Path
Dispersion = Literal["auto", "add", "as_is"]
FROM_SCRATCH: dict[str, Any] = {"optimizer": {"learning_rate": 2e-3}}


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
    """Train a model further; the calculator that is given is left unchanged.

    Args:
        calc: a calculator, a shipped model's name, or an .hff file.
        frames: labelled frames, a file or a folder.
        adapt: what is frozen, added and replayed (`AdaptConfig`).
        validation: labelled frames that are not trained on.
        settings: of the training (`TrainConfig`, without ``model`` and ``data``).
        output: folder for the log, the state of the training and ``model.hff``. Without one
            nothing is kept.
        resume: continue the run in the output folder.
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
    chosen = AdaptConfig.load(adapt)
    model = ModelSection(
        name=name or f"{start.info.name}-finetuned",
        description=f"fine-tuned from {start.info.name}: {start.info.description}".rstrip(": "),
        start=start.info.name,
        adapt=chosen,
    )
    config = training_config(settings, start, model)
    split = read(frames), read(validation)
    return _run(config, start, split, output, resume, stop, Start(_on_cpu(start), start.info))


def train_from_scratch(
    calc: HybridFF | str | Path,
    frames: Frames,
    *,
    dispersion: Dispersion = "auto",
    validation: Frames | None = None,
    settings: TrainConfig | Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    stop: StopSource | None = None,
) -> HybridFF:
    """Train a model with the terms of another one, from random weights, on some frames.

    Reference energies are fitted first. Results and errors are those of `finetune`.

    Args:
        calc: whose terms are taken; its weights are not.
        dispersion: that of `AdaptConfig`.
        frames, validation, settings, output, resume, stop: as for `finetune`.
    """
    start = calc if isinstance(calc, HybridFF) else HybridFF.load(calc)
    terms = {name: {"kind": t.kind, **t.config()} for name, t in start.potential.named_terms()}
    model = ModelSection(
        name=f"{start.info.name}-from-scratch",
        description=f"the terms of {start.info.name}, trained from random weights",
        elements=start.potential.elements or tuple(chemical_symbols[1:]),
        terms=terms,
    )
    data = DataSection(train=(), dispersion=dispersion)
    config = training_config(settings, start, model, data, FROM_SCRATCH)
    split = without_isolated(read(frames)), read(validation)
    return _run(config, start, split, output, resume, stop)


def training_config(
    settings: TrainConfig | Mapping[str, Any] | None,
    start: HybridFF,
    model: ModelSection,
    data: DataSection | None = None,
    more: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Settings of a training over the defaults of fine-tuning; precision and device of a model.

    Args:
        settings: without ``model``, ``data`` and ``output``; a whole `TrainConfig` is taken as it
            is but for these.
        start: the calculator that is trained further, or whose like is trained.
        model, data: what is trained, and how labels are taken.
        more: further defaults.

    Raises:
        ConfigError: settings that make no sense, or a model or data among them.
    """
    sections = {"model": model, "data": data}
    if isinstance(settings, TrainConfig):
        return settings.model_copy(update=sections)
    given = Given.of(settings or {})
    for key in ("model", "data", "output"):
        if given.get(key) is not None:
            raise ConfigError(f"expected training settings without {key!r}, which is given apart")
    defaults = Given(more or {}).over(FINETUNING, TrainConfig)
    own = Given({"dtype": start.dtype, "device": str(start.device)}).over(defaults)
    return TrainConfig.load(Given(sections).over(given.over(own, TrainConfig)))


def read(frames: Frames | None) -> list[Atoms]:
    """Frames as they are given, or those of a file or folder."""
    if frames is None:
        return []
    return read_all([frames]) if isinstance(frames, (str, Path)) else list(frames)


def _on_cpu(calc: HybridFF) -> HybridPotential:
    """The potential where frames become tensors; a copy where it is elsewhere."""
    if calc.device.type == "cpu":
        return calc.potential
    return copy.deepcopy(calc.potential).to("cpu")


def _run(
    config: TrainConfig,
    calc: HybridFF,
    split: Split,
    output: str | Path | None,
    resume: bool,
    stop: StopSource | None,
    start: Start | None = None,
) -> HybridFF:
    """A calculator like the one that it comes from, saved where there is a folder."""
    with TemporaryDirectory() as scratch:
        config = config.model_copy(update={"output": str(output or scratch)})
        trained = run(config, start=start, frames=split, resume=resume, stop=stop)
    kernels = calc.potential.kernels
    return calculator_of(trained, output, str(calc.device), calc.dtype, calc.skin, kernels)
