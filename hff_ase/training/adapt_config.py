"""What fine-tuning changes in a model before it is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator

from hff_ase.settings import Section, setting
from hff_ase.settings.declare import REQUIRED


class LoRAConfig(Section):
    """Low-rank updates of linear layers (Hu et al., ICLR 2022).

    W + alpha/rank B A, with B = 0 at first.
    """

    rank: int = setting(8, "Rows of A.", ge=1)
    alpha: float | None = setting(None, "Weight of the update.", shown="the rank", gt=0)
    patterns: tuple[str, ...] = setting(
        ("*",), "Which linear layers, by the names of their modules.", metavar="PATTERN"
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
        "Entries of physical tables by name, such as c6=4.1; those that are missing are copied "
        "from the known element.",
    )


class ReplayConfig(Section):
    """Frames that the model knew already, trained on again so that they are not forgotten."""

    frames: tuple[str, ...] = setting(
        REQUIRED, "Files or folders of labelled frames.", metavar="PATH"
    )
    weight: float = setting(1.0, "What one of them counts beside a new one.", gt=0)
    number: int | None = setting(None, "Use so many, evenly spaced.", shown="all", ge=1)
    labels: Literal["own", "model"] = setting(
        "own",
        "model: what the model gave before it was changed, which also serves frames without labels "
        "or with those of another method.",
    )

    @field_validator("frames", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class AdaptConfig(Section):
    """How a trained model is made ready for training on something else."""

    freeze: tuple[str, ...] | None = setting(
        None,
        "What stays as it is: heads_only, last_layer_and_heads, all_but_embedding, or a pattern of "
        "parameter names.",
        shown="nothing; with lora everything but the updates and new heads",
        metavar="PATTERN",
    )
    unfreeze: tuple[str, ...] = setting(
        (), "Pattern of parameters that are trained all the same.", metavar="PATTERN"
    )
    lora: LoRAConfig | None = None
    add_elements: dict[str, NewElement] = setting(
        {}, "New element, and a known one it starts like: Na=Li; Na alone starts like the mean."
    )
    new_heads: dict[str, dict[str, Any]] = setting(
        {},
        "Term to add, name -> kind and constructor arguments; elements and channels are filled in.",
    )
    refit_references: bool = setting(
        False, "Fit the reference energies of elements to what is left of the labels."
    )
    dispersion: Literal["auto", "add", "as_is"] = setting(
        "auto",
        "Labels without dispersion for a model that has a dispersion term: auto adds the term's "
        "contribution to labels that are known to lack it, add to all, as_is to none.",
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
