"""The sections of a configuration that say what is trained, on which frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """Part of a configuration: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class ModelSection(Section):
    """What is trained: terms from random weights, or a model to start from.

    Attributes:
        name, description, licence, provenance: of the saved model.
        elements: chemical symbols that the model knows.
        terms: name -> constructor arguments, `kind` among them (the name itself if left out);
            `elements` and `channels` are filled in.
        start: a shipped model or an .hff file.
        adapt: how the start is adapted (see `hff_ase.training.adapt`).
        train_as: term -> arguments that differ while it is trained (a coarser lattice sum: training
            needs the gradient, not its last digits).
        save_as: term -> arguments that differ in the saved model (Coulomb by pme, for example), or
            a whole further term with its `kind`.
    """

    name: str = "model"
    description: str = ""
    licence: str = ""
    provenance: str = ""
    elements: tuple[str, ...] | None = None
    terms: dict[str, dict[str, Any]] | None = None
    start: str | None = None
    adapt: dict[str, Any] = {}
    train_as: dict[str, dict[str, Any]] = {}
    save_as: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _one_source(self) -> ModelSection:
        if (self.terms is None) == (self.start is None):
            raise ValueError("expected either terms or start, got " + ("neither", "both")[
                self.terms is not None])  # fmt: skip
        if self.terms is not None and not self.elements:
            raise ValueError("expected elements beside terms, got none")
        if self.start is None and self.adapt:
            raise ValueError("expected adapt only beside start, got it beside terms")
        return self


class SplitSection(Section):
    """Which of the training frames are held out for validation.

    Attributes:
        segment, held_out: frames of each file in segments of so many; the segments of these
            numbers are held out.
        fraction: a random part of all frames (neighbours in a trajectory are alike: prefer
            segments), drawn with the configuration's seed.
        files: held-out files, as patterns of their names.
    """

    segment: int | None = Field(default=None, ge=1)
    held_out: tuple[int, ...] = ()
    fraction: float | None = Field(default=None, gt=0, lt=1)
    files: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> SplitSection:
        if (self.segment is None) != (not self.held_out):
            raise ValueError("expected segment and held_out together, got one of them")
        if self.segment is None and self.fraction is None and not self.files:
            raise ValueError("expected segment and held_out, fraction or files, got none of them")
        return self


class DataSection(Section):
    """Labelled frames.

    Attributes:
        train, validation: files and folders (extxyz, extxyz.xz, db ...).
        split: validation frames taken out of `train`.
        in_memory: False reads frames of one database when they are needed.
        validation_stride: validate on every so many-th frame.
        reference_energies: "fit" (least squares), "isolated" (the energies of isolated atoms where
            the frames have them, least squares for the rest), "keep" (as the model has them), or
            eV per element. A model to start from says in `adapt` what becomes of its own.
        dispersion: labels without dispersion for a model that has a dispersion term: "auto" adds
            the term's contribution to labels that are known to lack it, "add" to all, "as_is" to
            none (see `hff_ase.training.adapt`).
        check: look for broken and mislabelled frames before training.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    split: SplitSection | None = None
    in_memory: bool = True
    validation_stride: int = Field(default=1, ge=1)
    reference_energies: Literal["fit", "isolated", "keep"] | dict[str, float] = "fit"
    dispersion: Literal["auto", "add", "as_is"] = "auto"
    check: bool = True

    @field_validator("train", "validation", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [str(value)] if isinstance(value, (str, Path)) else value

    @field_validator("train", "validation")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # a run may be resumed from another working directory
        return tuple(str(Path(entry).resolve()) for entry in value)

    @model_validator(mode="after")
    def _consistent(self) -> DataSection:
        if self.split is not None and self.validation:
            raise ValueError("expected either validation or split, got both")
        if not self.in_memory and self.split is not None:
            raise ValueError("expected validation as a database of its own, got split")
        return self
