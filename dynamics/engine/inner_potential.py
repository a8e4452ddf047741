"""The cheap potential of a run with inner steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hff_ase.dynamics.config import MDConfig
from hff_ase.errors import ConfigError

if TYPE_CHECKING:  # torch is imported only where the calculator uses it
    from hff_ase.potential import HybridPotential


def has_inner_steps(config: MDConfig) -> bool:
    """Whether the settings split the potential."""
    return config.inner_model is not None or bool(config.inner_without)


def inner_potential(config: MDConfig, calc: Any) -> HybridPotential:
    """Another model, or the calculator's own without some terms (sharing parameters).

    Args:
        config: with an inner model, or with terms to leave out.
        calc: the HybridFF of the run; the potential is made for its device and precision.

    Raises:
        ConfigError: no such term, nothing left, or a term that is left needs one that is not.
        CheckpointError: the model cannot be loaded.
    """
    if config.inner_model is not None:
        from hff_ase.calculators.hybrid import HybridFF

        model = HybridFF.load(config.inner_model, device=str(calc.device), dtype=calc.dtype)
        return model.potential.use_kernels(calc.potential.kernels)
    names = [name for name, _ in calc.potential.named_terms()]
    unknown = [name for name in config.inner_without if name not in names]
    if unknown:
        raise ConfigError(f"expected inner_without among the terms {names}, got {unknown[0]!r}")
    kept = [name for name in names if name not in config.inner_without]
    if not kept:
        raise ConfigError(f"expected inner_without to leave one of the terms {names}, got all")
    part: HybridPotential = calc.potential.subset(kept)
    return part.to(calc.device)


def check_inner(config: MDConfig, calc: Any) -> None:
    """Refuse inner steps that the run cannot have.

    Args:
        config: with an engine chosen.
        calc: the calculator of the run.

    Raises:
        ConfigError: they need the torch engine; or as `inner_potential`.
    """
    if not has_inner_steps(config):
        return
    if config.engine != "torch":
        raise ConfigError(
            f"expected engine torch with a HybridFF for inner steps, got engine {config.engine} "
            f"with {type(calc).__name__}"
        )
    inner_potential(config, calc)
