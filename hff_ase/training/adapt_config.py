"""What fine-tuning changes in a model before it is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator

from hff_ase.settings import Section, absolute, setting
from hff_ase.settings.declare import REQUIRED


class LoRAConfig(Section):
    """Low-rank updates of linear layers (Hu et al., ICLR 2022).

    W + alpha/rank B A, with B = 0 at first.
    """

    rank: int = setting(8, "Rank of the update (rows of A).", ge=1)
    alpha: float | None = setting(None, "Weight of the update.", shown="the rank", gt=0)
    patterns: tuple[str, ...] = setting(
        ("*",), "Linear layers to update, by module name.", metavar="PATTERN"
    )

    @field_validator("patterns", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class NewElement(Section):
    """How a new element starts."""

    like: str | None = setting(
        None, "A known element whose rows it copies; without one, the mean over all of them."
    )
    tables: dict[str, float] = setting(
        {},
        "Entries of physical tables by name, such as c6=4.1; missing ones are copied from "
        "the known element.",
    )


class ReplayConfig(Section):
    """Frames that the model knew already, trained on again so that they are not forgotten."""

    frames: tuple[str, ...] = setting(
        REQUIRED, "Files or folders of labelled frames.", metavar="PATH"
    )
    weight: float = setting(1.0, "Weight of an old frame relative to a new one.", gt=0)
    number: int | None = setting(None, "Number of frames to use, evenly spaced.", shown="all", ge=1)
    labels: Literal["own", "model"] = setting(
        "own",
        "model: results of the model before it is changed, also for frames without labels "
        "or with labels of another method.",
    )

    @field_validator("frames", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("frames")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(absolute(entry) for entry in value)


class AdaptConfig(Section):
    """How a trained model is made ready for training on something else."""

    freeze: tuple[str, ...] | None = setting(
        None,
        "Parameters to freeze: heads_only, last_layer_and_heads, all_but_embedding (named "
        "after what is trained), or a pattern of names.",
        shown="nothing; with lora everything but the updates and new heads",
        metavar="PATTERN",
    )
    unfreeze: tuple[str, ...] = setting(
        (), "Pattern of parameters to train nevertheless.", metavar="PATTERN"
    )
    lora: LoRAConfig | None = None
    add_elements: dict[str, NewElement] = setting(
        {}, "New element, and a known one to start from: Na=Li; Na alone starts from the mean."
    )
    new_heads: dict[str, dict[str, Any]] = setting(
        {},
        "Term to add, name -> kind and constructor arguments; elements and channels are filled in.",
    )
    refit_references: bool = setting(
        False, "Fit the reference energies of the elements to the residual of the labels."
    )
    dispersion: Literal["auto", "add", "as_is"] = setting(
        "auto",
        "For a model with a dispersion term: auto adds its contribution to labels known "
        "to lack dispersion, add to all labels, as_is to none.",
    )
    replay: ReplayConfig | None = None

    @field_validator("freeze", "unfreeze", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("add_elements", mode="before")
    @classmethod
    def _by_symbol(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return {symbol: {} for symbol in value}
        if isinstance(value, Mapping):
            return {
                symbol: {} if how is None else {"like": how} if isinstance(how, str) else how
                for symbol, how in value.items()
            }
        return value
