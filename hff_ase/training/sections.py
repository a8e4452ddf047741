"""The sections of a configuration that say what is trained, on which frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from hff_ase.settings import Section, absolute, setting
from hff_ase.settings.declare import REQUIRED
from hff_ase.training.adapt_config import AdaptConfig


class AboutSection(Section):
    """Information about the saved model."""

    name: str = setting("model", "Name of the saved model.")
    description: str = setting("", "Description of the saved model.")
    licence: str = setting("", "Licence of the saved model.")
    provenance: str = setting("", "Provenance of the saved model.")


class ModelSection(AboutSection):
    """What is trained: terms from random weights, or a model to start from."""

    alternatives = (("terms", "elements"), ("start", "adapt"))

    elements: tuple[str, ...] | None = setting(
        None, "Chemical symbols that the model knows.", commas=True, metavar="SYMBOL"
    )
    terms: dict[str, dict[str, Any]] | None = setting(
        None,
        "Name -> constructor arguments with the kind (default: the name); elements and "
        "channels are filled in.",
    )
    start: str | None = setting(
        None, "A shipped model or an .hff file to start from.", metavar="MODEL"
    )
    adapt: AdaptConfig = AdaptConfig()
    train_as: dict[str, dict[str, Any]] = setting(
        {},
        "Term -> arguments that differ during training (such as a coarser lattice sum).",
    )
    save_as: dict[str, dict[str, Any]] = setting(
        {},
        "Term -> arguments that differ in the saved model (such as Coulomb by pme), or a "
        "whole further term with its kind.",
    )

    @field_validator("start")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        return absolute(value, Path.is_file) if value else value

    @model_validator(mode="after")
    def _one_source(self) -> ModelSection:
        if (self.terms is None) == (self.start is None):
            raise ValueError("expected either terms or start, got " + ("neither", "both")[
                self.terms is not None])  # fmt: skip
        if self.terms is not None and not self.elements:
            raise ValueError("expected elements beside terms, got none")
        if self.start is None and self.adapt != AdaptConfig():
            raise ValueError("expected adapt only beside start, got it beside terms")
        return self


class SplitSection(Section):
    """Which of the training frames are held out for validation."""

    segment: int | None = setting(
        None, "Number of frames in a segment of a file; some segments are held out.", ge=1
    )
    held_out: tuple[int, ...] = setting((), "Numbers of the held-out segments.", commas=True)
    fraction: float | None = setting(
        None,
        "Random fraction of all frames, drawn with the seed (successive frames of a "
        "trajectory are similar: prefer segments).",
        gt=0,
        lt=1,
    )
    files: tuple[str, ...] = setting(
        (), "Held-out files, as patterns of their names.", metavar="PATTERN"
    )

    @model_validator(mode="after")
    def _whole(self) -> SplitSection:
        if (self.segment is None) != (not self.held_out):
            raise ValueError("expected segment and held_out together, got one of them")
        if self.segment is None and self.fraction is None and not self.files:
            raise ValueError("expected segment and held_out, fraction or files, got none of them")
        return self


class DataSection(Section):
    """Labelled frames."""

    train: tuple[str, ...] = setting(
        REQUIRED, "Files and folders (extxyz, extxyz.xz, db ...).", metavar="PATH"
    )
    validation: tuple[str, ...] = setting(
        (), "Files and folders of frames to validate on.", metavar="PATH"
    )
    split: SplitSection | None = None
    in_memory: bool = setting(
        True, "Keep all frames in memory; otherwise frames of a database are read when needed."
    )
    validation_stride: int = setting(1, "Validate on every n-th frame.", ge=1)
    reference_energies: Literal["fit", "isolated", "keep"] | dict[str, float] = setting(
        "fit",
        "fit (least squares), isolated (energies of isolated atoms where the frames have "
        "them, least squares for the rest), keep (those of the model), or eV per element. "
        "When starting from a model, see adapt.",
    )
    dispersion: Literal["auto", "add", "as_is"] = setting(
        "auto",
        "For a model with a dispersion term: auto adds its contribution to labels known "
        "to lack dispersion, add to all labels, as_is to none.",
    )
    check: bool = setting(True, "Check for broken and mislabelled frames before training.")

    @field_validator("train", "validation", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return [str(value)] if isinstance(value, (str, Path)) else value

    @field_validator("train", "validation")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(absolute(entry) for entry in value)

    @model_validator(mode="after")
    def _consistent(self) -> DataSection:
        if self.split is not None and self.validation:
            raise ValueError("expected either validation or split, got both")
        if not self.in_memory and self.split is not None:
            raise ValueError("expected validation as a database of its own, got split")
        return self
