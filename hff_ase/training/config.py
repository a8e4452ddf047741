"""Every setting of a training, in sections, checked, to and from yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from hff_ase.errors import ConfigError
from hff_ase.training.losses import PROPERTIES, LossWeights
from hff_ase.training.sections import DataSection, ModelSection, Section, SplitSection
from hff_ase.training.settings import explain, read_yaml

__all__ = [
    "DataSection",
    "ModelSection",
    "SplitSection",
    "TrainConfig",
]


class Phase(Section):
    """Loss weights from a part of the run on; those not given stay as they were before.

    Attributes:
        start: the part of the run after which the phase begins, 0 to 1.
    """

    start: float = Field(ge=0, lt=1)
    energy: float | None = Field(default=None, ge=0)
    forces: float | None = Field(default=None, ge=0)
    stress: float | None = Field(default=None, ge=0)
    charges: float | None = Field(default=None, ge=0)
    dipole: float | None = Field(default=None, ge=0)
    esp: float | None = Field(default=None, ge=0)
    charge_response: float | None = Field(default=None, ge=0)


class LossSection(Section):
    """Weights of the mean squared errors (`hff_ase.training.losses`).

    One box has one stress: while the learning rate is high its noise would drown the forces, so by
    default energies, stress and charges count for more at the end only.
    """

    energy: float = Field(default=2.0, ge=0)
    forces: float = Field(default=1.0, ge=0)
    stress: float = Field(default=1e3, ge=0)
    charges: float = Field(default=3.0, ge=0)
    dipole: float = Field(default=0.0, ge=0)
    esp: float = Field(default=0.0, ge=0)
    charge_response: float = Field(default=0.0, ge=0)
    remove_energy_mean: bool = False
    phases: tuple[Phase, ...] = (Phase(start=0.85, energy=10.0, stress=5e3, charges=10.0),)

    @model_validator(mode="after")
    def _in_order(self) -> LossSection:
        starts = [phase.start for phase in self.phases]
        if starts != sorted(starts):
            raise ValueError(f"expected phases in the order of their start, got {starts}")
        return self

    def weights(self, progress: float) -> LossWeights:
        """The weights at this part of the run (0 to 1)."""
        found = LossWeights(
            **{name: getattr(self, name) for name in PROPERTIES},
            remove_energy_mean=self.remove_energy_mean,
        )
        for phase in self.phases:
            if progress >= phase.start:
                given = {name: getattr(phase, name) for name in PROPERTIES}
                found = replace(found, **{k: v for k, v in given.items() if v is not None})
        return found


class OptimizerSection(Section):
    """The optimizer; weight decay acts on matrices only. `clip` bounds the gradient's norm.

    "soap" (`Soap`) takes a tenth more time per step than "adamw" and fewer steps.
    """

    kind: Literal["adam", "adamw", "adamax", "soap"] = "adamw"
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    amsgrad: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0)
    clip: float | None = Field(default=10.0, gt=0)


class ScheduleSection(Section):
    """Length of the run and learning rate: linear warm-up, then decay to `final_learning_rate`.

    Attributes:
        steps, epochs: length; one of them.
        by: "time" takes the used part of `limits` as the part of the run that is done, so that a
            run of a given time ends annealed.
        warmup: steps.
        decay: cosine, exponential or constant.
    """

    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    by: Literal["steps", "time"] = "steps"
    warmup: int = Field(default=500, ge=0)
    decay: Literal["cosine", "exponential", "constant"] = "cosine"
    final_learning_rate: float = Field(default=1e-5, gt=0)


class EmaSection(Section):
    """Averaged weights, which are validated and saved: those of the last step or the best ones."""

    decay: float = Field(default=0.999, ge=0, lt=1)
    keep: Literal["last", "best"] = "last"


class BatchingSection(Section):
    """Frames per step, over all processes together.

    Attributes:
        batch_size: frames per step, dealt so that batches have alike numbers of atoms.
        max_edges: instead of it, as many frames as have this many neighbour pairs in all.
        micro_batch: at most so many frames at once per process; it is halved where memory runs
            out. The gradient stays that of the whole batch.
        workers: processes that read frames ahead (for databases).
    """

    batch_size: int = Field(default=1, ge=1)
    max_edges: int | None = Field(default=None, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    workers: int = Field(default=0, ge=0)


class PrecisionSection(Section):
    """Precision of the networks (sums are float64), device, and how gradients are computed."""

    networks: Literal["float32", "float64"] = "float32"
    device: str = "cpu"
    gradients: Literal["auto", "reference", "directional"] = "auto"


class LoggingSection(Section):
    """What is written and shown.

    Attributes:
        validate_every: steps between validations and rows of the log; None is once per epoch.
        checkpoint_every, checkpoint_minutes: steps and minutes between saved states; one is saved
            at every validation, too.
    """

    validate_every: int | None = Field(default=None, ge=1)
    checkpoint_every: int | None = Field(default=None, ge=1)
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    progress: bool = True
    plot: bool = True
    tensorboard: bool = False


class LimitsSection(Section):
    """The run ends, complete, after so many hours of wall time or of this process's CPU time."""

    max_hours: float | None = Field(default=None, gt=0)
    cpu_hours: float | None = Field(default=None, gt=0)


class TrainConfig(Section):
    """Settings of a training.

    Attributes:
        output: folder of the run.
        seed: of initial weights, order of frames and random splits.
        model, data: what is trained, on which frames; `Trainer` is given both and needs neither.
    """

    output: str = "train"
    seed: int = Field(default=0, ge=0)
    model: ModelSection | None = None
    data: DataSection | None = None
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()
    ema: EmaSection = EmaSection()
    batching: BatchingSection = BatchingSection()
    precision: PrecisionSection = PrecisionSection()
    logging: LoggingSection = LoggingSection()
    limits: LimitsSection = LimitsSection()

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise ConfigError(explain(error, type(self))) from error

    @model_validator(mode="after")
    def _has_an_end(self) -> TrainConfig:
        limited = self.limits.max_hours or self.limits.cpu_hours
        if self.schedule.steps is not None and self.schedule.epochs is not None:
            raise ValueError("schedule: expected either steps or epochs, got both")
        if self.schedule.by == "time" and (self.schedule.steps or self.schedule.epochs):
            raise ValueError("schedule: expected no steps or epochs with 'by: time', got some")
        if self.schedule.by == "time" and not limited:
            raise ValueError(
                "schedule: expected limits.max_hours or limits.cpu_hours for 'by: time', got none"
            )
        if self.schedule.by == "steps" and not (self.schedule.steps or self.schedule.epochs):
            raise ValueError("schedule: expected steps or epochs, or 'by: time', got none")
        return self

    @classmethod
    def from_yaml(cls, path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
        """Read a yaml file; ``overrides`` such as "optimizer.learning_rate=1e-3" replace settings.

        Raises:
            ConfigError: it cannot be read or holds something else; names key, line and what was
                expected.
        """
        content, lines = read_yaml(path, overrides)
        try:
            return cls(**content)
        except ConfigError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ConfigError(f"{path}: {explain(error.__cause__, cls, lines)}") from None
            raise

    @classmethod
    def of(cls, config: TrainConfig | Mapping[str, Any] | str | Path) -> TrainConfig:
        """A configuration from one, a mapping or a yaml file."""
        if isinstance(config, TrainConfig):
            return config
        if isinstance(config, Mapping):
            return cls(**config)
        return cls.from_yaml(config)

    def to_yaml(self) -> str:
        """Every setting with its value: a valid configuration."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
