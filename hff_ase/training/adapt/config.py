"""What fine-tuning changes in a model before it is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hff_ase.errors import ConfigError
from hff_ase.training.settings import explain


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoRAConfig(_Strict):
    """Low-rank updates of linear layers (Hu et al., ICLR 2022): W + alpha/rank B A, B = 0 at first.

    Attributes:
        rank: rows of A.
        alpha: weight of the update; ``rank`` where it is not given.
        patterns: which linear layers, by the names of their modules.
    """

    rank: int = Field(8, ge=1)
    alpha: float | None = Field(None, gt=0)
    patterns: tuple[str, ...] = ("*",)

    @field_validator("patterns", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class NewElement(_Strict):
    """How a new element starts.

    Attributes:
        like: a known element whose rows it copies; without one, the mean over all known elements.
        tables: entries of physical tables per name, such as ``{"c6": 4.1, "r0": 2.3}``; those that
            are missing are copied from ``like``.
    """

    like: str | None = None
    tables: dict[str, float] = Field(default_factory=dict)


class ReplayConfig(_Strict):
    """Frames that the model knew already, trained on again so that they are not forgotten.

    Attributes:
        frames: files or folders of labelled frames.
        weight: what one of them counts beside a new one.
        number: use so many, evenly spaced; all of them where it is not given.
        labels: "own", or "model": what the model gave before it was changed, which also serves
            frames without labels or with those of another method.
    """

    frames: tuple[str, ...]
    weight: float = Field(1.0, gt=0)
    number: int | None = Field(None, ge=1)
    labels: Literal["own", "model"] = "own"

    @field_validator("frames", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class AdaptConfig(_Strict):
    """How a trained model is made ready for training on something else.

    Attributes:
        freeze: names of presets (`hff_ase.training.adapt.freeze.PRESETS`) and patterns of parameter
            names that stay as they are. Where it is not given: nothing, or with ``lora`` everything
            but the low-rank updates and new heads.
        unfreeze: patterns of parameters that are trained all the same.
        lora: low-rank updates of linear layers.
        add_elements: new elements, each with how it starts; a list of symbols, or symbol -> a known
            element it resembles, also do.
        new_heads: terms to add, name -> {kind, constructor arguments}; elements and channels are
            filled in from the model.
        refit_references: fit the reference energies of elements to what is left of the labels.
        dispersion: labels without dispersion for a model that has a dispersion term: "auto" adds
            the term's contribution to labels that are known to lack it, "add" to all, "as_is" to
            none.
        replay: old frames to train on beside the new ones.
    """

    freeze: tuple[str, ...] | None = None
    unfreeze: tuple[str, ...] = ()
    lora: LoRAConfig | None = None
    add_elements: dict[str, NewElement] = Field(default_factory=dict)
    new_heads: dict[str, dict[str, Any]] = Field(default_factory=dict)
    refit_references: bool = False
    dispersion: Literal["auto", "add", "as_is"] = "auto"
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


def make_config(settings: AdaptConfig | Mapping[str, Any] | None) -> AdaptConfig:
    """Settings checked.

    Raises:
        ConfigError: an unknown key, with the nearest one, or a value that cannot be.
    """
    if isinstance(settings, AdaptConfig):
        return settings
    try:
        return AdaptConfig(**(settings or {}))
    except ValidationError as error:
        raise ConfigError("adapt: " + explain(error, AdaptConfig)) from None
