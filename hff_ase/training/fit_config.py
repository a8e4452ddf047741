"""Settings of an alignment and of a calibration: models that are fitted to what is measured."""

from __future__ import annotations

from hff_ase.settings import Settings, setting

__all__ = ["AlignSettings", "CalibrateSettings", "PhysicsSettings"]

FITTING = "Fitting"
HELD = "What the model keeps"


class AlignSettings(Settings):
    """How an alignment is trained.

    A deviation counts in units of its setting under "what the model keeps": ``pressure`` of the
    molecules' pressure from what is wanted (beside the error of that), ``internal`` of other
    components of the molecular and of the intramolecular stress, ``energy`` and ``forces`` from the
    model before.
    """

    steps: int = setting(
        300,
        "Of Adam; the learning rate falls to zero along half a cosine.",
        panel=FITTING,
        ge=1,
    )
    learning_rate: float = setting(2e-4, "Initial learning rate.", panel=FITTING, gt=0)
    frames: int = setting(30, "Of each liquid, spread over its samples.", panel=FITTING, ge=1)
    validation: float = setting(
        0.2, "Part of the frames that is not trained on.", panel=FITTING, ge=0, lt=1
    )
    batch: int = setting(1, "Frames of each liquid in a step.", panel=FITTING, ge=1)
    pressure: float = setting(
        20.0, "Deviation of the molecules' pressure that weighs one.", unit="bar", panel=HELD, gt=0
    )
    internal: float = setting(
        50.0, "Deviation of other stresses that weighs one.", unit="bar", panel=HELD, gt=0
    )
    energy: float = setting(
        3e-4, "Deviation of the energy that weighs one.", unit="eV/atom", panel=HELD, gt=0
    )
    forces: float = setting(
        3e-3, "Deviation of a force that weighs one.", unit="eV/Angstrom", panel=HELD, gt=0
    )
    seed: int = setting(0, "Of the order of frames.", panel=FITTING, ge=0)
    save_every: int = setting(
        50, "Steps between two states that a stopped training goes on from.", panel=FITTING, ge=1
    )


class CalibrateSettings(Settings):
    """How a calibration goes."""

    iterations: int = setting(10, "At most.", panel=FITTING, ge=1)
    trust: float = setting(
        0.5, "Part of the effective samples that a step must leave.", panel=FITTING, gt=0, lt=1
    )
    least: float = setting(
        0.1,
        "Part of all samples that must be left at all; then new ones are needed.",
        panel=FITTING,
        gt=0,
        lt=1,
    )
    converged: float = setting(
        1e-2, "Relative change of the objective at which it ends.", panel=FITTING, gt=0
    )
    weight: float = setting(
        0.0,
        "Weight of the forces of the frames: squared error relative to its initial value.",
        panel=FITTING,
        ge=0,
    )
    prior: float = setting(1.0, "Factor of all prior widths.", panel=FITTING, gt=0)
    n_draws: int = setting(100, "Of bootstraps.", panel=FITTING, ge=1)
    seed: int = setting(0, "Of bootstraps.", panel=FITTING, ge=0)


class PhysicsSettings(Settings):
    """How physical terms are fitted to decomposed interaction energies."""

    iterations: int = setting(20, "At most.", panel=FITTING, ge=1)
    converged: float = setting(
        1e-3, "Relative change of the objective at which it ends.", panel=FITTING, gt=0
    )
    error: float = setting(
        0.02, "Deviation of a component that weighs one.", unit="eV", panel=FITTING, gt=0
    )
    total: float = setting(
        10.0, "Weight of the square of the total beside that of a component.", panel=FITTING, ge=0
    )
    prior_widths: float = setting(1.0, "Factor of all prior widths.", panel=FITTING, gt=0)
    weight: float = setting(
        0.0,
        "Weight of the forces of --frames: squared error relative to its initial value.",
        panel=FITTING,
        ge=0,
    )
    n_draws: int = setting(100, "Of bootstraps of measured values.", panel=FITTING, ge=1)
    seed: int = setting(0, "Of bootstraps.", panel=FITTING, ge=0)
