"""Every setting of a training, in sections, checked, to and from yaml."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from hff_ase.settings import Section, setting
from hff_ase.settings.common import OUTPUT, PrecisionSettings
from hff_ase.settings.declare import REQUIRED
from hff_ase.training.sections import DataSection, ModelSection, SplitSection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hff_ase.training.losses import LossWeights

__all__ = [
    "DataSection",
    "ModelSection",
    "SplitSection",
    "TrainConfig",
]

# Fine-tuning starts near where it ends: smaller steps than a training from random weights.
FINETUNING: Mapping[str, Any] = {
    "schedule": {"epochs": 50, "warmup": 100},
    "optimizer": {"learning_rate": 5e-4},
    "ema": {"decay": 0.99},  # of a short run
}
DISTILLING: Mapping[str, Any] = {"schedule": {"steps": 20_000}}


class Phase(Section):
    """Loss weights from a part of the run on; those not given stay as they were before."""

    start: float = setting(
        REQUIRED, "Fraction of the run after which the phase begins, 0 to 1.", ge=0, lt=1
    )
    energy: float | None = setting(None, "Weight of energies per atom from then on.", ge=0)
    forces: float | None = setting(None, "Weight of force components from then on.", ge=0)
    stress: float | None = setting(None, "Weight of stress from then on.", ge=0)
    charges: float | None = setting(None, "Weight of charges from then on.", ge=0)
    dipole: float | None = setting(None, "Weight of dipole moments from then on.", ge=0)
    esp: float | None = setting(
        None, "Weight of the electrostatic potential around molecules from then on.", ge=0
    )
    charge_response: float | None = setting(
        None, "Weight of the charges' response to displacements from then on.", ge=0
    )


class LossSection(Section):
    """Weights of the mean squared errors (`hff_ase.training.losses`).

    One box has one stress: while the learning rate is high its noise would drown the forces, so by
    default energies, stress and charges count for more at the end only.
    """

    energy: float = setting(2.0, "Weight of energies per atom.", ge=0)
    forces: float = setting(1.0, "Weight of force components.", ge=0)
    stress: float = setting(1e3, "Weight of stress.", ge=0)
    charges: float = setting(3.0, "Weight of charges.", ge=0)
    dipole: float = setting(0.0, "Weight of dipole moments.", ge=0)
    esp: float = setting(0.0, "Weight of the electrostatic potential around molecules.", ge=0)
    charge_response: float = setting(0.0, "Weight of the charges' response to displacements.", ge=0)
    remove_energy_mean: bool = setting(
        False, "Energies may differ from the labels by a constant per batch."
    )
    phases: tuple[Phase, ...] = setting(
        (Phase(start=0.85, energy=10.0, stress=5e3, charges=10.0),),
        "Weights from a given point of the run: start (0 to 1), and weights by the names above.",
        shown="from 0.85 on energy 10, stress 5000, charges 10",
    )

    @model_validator(mode="after")
    def _in_order(self) -> LossSection:
        starts = [phase.start for phase in self.phases]
        if starts != sorted(starts):
            raise ValueError(f"expected phases in the order of their start, got {starts}")
        return self

    def weights(self, progress: float) -> LossWeights:
        """The weights at this part of the run (0 to 1)."""
        from hff_ase.training.losses import PROPERTIES, LossWeights  # late: torch

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
    """The optimizer; weight decay acts on matrices only."""

    kind: Literal["adam", "adamw", "adamax", "soap"] = setting(
        "adamw", "soap takes 10 % more time per step than adamw, but fewer steps."
    )
    learning_rate: float = setting(2e-3, "Learning rate after the warm-up.", gt=0)
    weight_decay: float = setting(0.0, "Weight decay, of matrices only.", ge=0)
    amsgrad: bool = setting(True, "Use the largest second moment so far (AMSGrad).")
    betas: tuple[float, float] = setting(
        (0.9, 0.999), "Decay of first and second moments.", commas=True
    )
    epsilon: float = setting(1e-8, "Added to the square root of second moments.", gt=0)
    clip: float | None = setting(10.0, "Largest norm of the gradient; none for no limit.", gt=0)


class ScheduleSection(Section):
    """Length of the run and learning rate: linear warm-up, then decay."""

    alternatives = (("steps",), ("epochs",), ("by",))

    steps: int | None = setting(
        None, "Length of the training in steps; or use epochs.", unit="steps", ge=1
    )
    epochs: float | None = setting(
        None, "Length of the training in epochs; or use steps.", unit="epochs", gt=0
    )
    by: Literal["steps", "time"] = setting(
        "steps",
        "time measures progress by the used part of limits, so that a run of limited time "
        "ends with the full decay.",
    )
    warmup: int = setting(500, "Length of the linear warm-up.", unit="steps", ge=0)
    decay: Literal["cosine", "exponential", "constant"] = setting(
        "cosine", "Decay of the learning rate after the warm-up."
    )
    final_learning_rate: float = setting(1e-5, "Learning rate at the end of the decay.", gt=0)


class EmaSection(Section):
    """Averaged weights, which are validated and saved."""

    decay: float = setting(0.999, "Decay of the exponential average, per step.", ge=0, lt=1)
    keep: Literal["last", "best"] = setting("last", "Weights of the last step, or the best ones.")


class BatchingSection(Section):
    """Frames per step, over all processes together."""

    alternatives = (("batch_size",), ("max_edges",))

    batch_size: int = setting(
        1, "Frames per step, grouped so that batches have similar numbers of atoms.", ge=1
    )
    max_edges: int | None = setting(
        None,
        "Instead of a number of frames: as many as have this many neighbour pairs in total.",
        ge=1,
    )
    micro_batch: int | None = setting(
        None,
        "Largest number of frames evaluated at once per process; halved if memory runs "
        "out. The gradient is still that of the whole batch.",
        shown="all",
        ge=1,
    )
    workers: int = setting(0, "Number of processes that read frames ahead (for databases).", ge=0)


class LoggingSection(Section):
    """What is logged and shown."""

    validate_every: int | None = setting(
        None,
        "Steps between validations and rows of the log.",
        unit="steps",
        shown="once per epoch",
        ge=1,
    )
    checkpoint_every: int | None = setting(
        None,
        "Interval between saved states; one is also saved at every validation.",
        unit="steps",
        ge=1,
    )
    checkpoint_minutes: float = setting(5.0, "Time between saved states.", unit="minutes", gt=0)
    progress: bool = setting(True, "Show progress on the screen.")
    plot: bool = setting(True, "Draw the learning curve.")
    tensorboard: bool = setting(False, "Write TensorBoard logs.")


class LimitsSection(Section):
    """The run ends, complete, after this time."""

    max_hours: float | None = setting(None, "Wall time.", unit="hours", gt=0)
    cpu_hours: float | None = setting(None, "CPU time of this process.", unit="hours", gt=0)


class TrainingSettings(PrecisionSettings):
    """How something is trained; `TrainConfig` also says what, and on which frames."""

    gradients: Literal["auto", "reference", "directional"] = setting(
        "auto",
        "How gradients of the loss are computed: by differentiating forces, or along a direction.",
    )
    seed: int = setting(0, "Seed of initial weights, order of frames and random splits.", ge=0)
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()
    ema: EmaSection = EmaSection()
    batching: BatchingSection = BatchingSection()
    logging: LoggingSection = LoggingSection()
    limits: LimitsSection = LimitsSection()


class TrainConfig(TrainingSettings):
    """Settings of a training; `Trainer` is given model and data and needs neither section."""

    output: str = setting("train", "Folder of the run.", short="-o", panel=OUTPUT, metavar="FOLDER")
    model: ModelSection | None = None
    data: DataSection | None = None

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
