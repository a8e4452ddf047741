"""A whole benchmark: systems of several sizes, one model, one machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.bench.boxes import copies, large_box
from hff_ase.bench.config import BenchConfig
from hff_ase.bench.dynamics import check_ensembles, time_dynamics
from hff_ase.bench.hardware import hardware, using_threads, versions, yardsticks
from hff_ase.bench.measure import (
    ase_overhead,
    count_rebuilds,
    peak_memory,
    time_rebuild,
    time_steps,
)
from hff_ase.bench.results import BenchResult, Row
from hff_ase.calculators import HybridFF
from hff_ase.errors import ConfigError

MD_ATOMS = 1000  # of the box in which neighbour searches are counted, or the smallest size


def run(
    config: BenchConfig,
    structures: Sequence[Atoms] | None = None,
    *,
    calculator: HybridFF | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> BenchResult:
    """Measure a model.

    Args:
        config: what is measured, and how.
        structures: what to measure; None packs boxes of the recipe.
        calculator: instead of the model of the settings; kernels, device, dtype and skin are
            then its own.
        progress: told what is being measured.

    Raises:
        ConfigError: unknown ensembles, or md_steps of 0 with ensembles.
        CheckpointError: no such model.
        RecipeError: a box cannot be packed.
        StructureError: a structure that the model cannot evaluate.
    """
    check_ensembles(config.ensembles)
    if config.ensembles and config.md_steps < 1:
        raise ConfigError("expected md_steps of at least 1 with ensembles, got 0")
    model, recipe = calculator or _load(config), config.recipe
    steps = config.md_steps, config.repeats
    with using_threads(config.threads) as n_threads:
        if structures is None:
            progress("packing boxes")
            structures = [large_box(recipe, size) for size in config.atoms]
            moving = large_box(recipe, min(MD_ATOMS, *config.atoms))
        else:
            recipe = ""
            moving = min(structures, key=len)
        machine = hardware(model.device)
        rates = yardsticks(model.device, config.repeats)
        if config.md_steps:
            progress(f"counting neighbour searches in MD of {len(moving)} atoms")
        rebuilds = count_rebuilds(model, moving, config.timestep, config.md_steps)
        interval = None if rebuilds is None else rebuilds.interval
        rows = []
        for atoms in structures:
            for n_systems in config.replicas:
                progress(f"measuring {n_systems} x {len(atoms)} atoms")
                row = _row(model, atoms, n_systems, interval, config)
                if config.ensembles:
                    progress(f"running MD of {n_systems} x {len(atoms)} atoms")
                row = replace(
                    row,
                    dynamics=time_dynamics(
                        model, atoms, n_systems, config.ensembles, config.timestep, *steps
                    ),
                    ase=ase_overhead(model, atoms, config.timestep, config.repeats)
                    if config.overhead and n_systems == 1
                    else None,
                )
                rows.append(row)
    settings = {
        "model": config.model if calculator is None else model.info.name,
        "terms": [term for term, _ in model.potential.named_terms()],
        "kernels": model.potential.kernels,
        "backend": model.potential.backend(model.device),
        "device": str(model.device),
        "dtype": model.dtype,
        "skin": model.skin,
        "threads": n_threads,
        "timestep": config.timestep,
        "stress": config.stress,
        "repeats": config.repeats,
        "block": config.block,
        "recipe": recipe or None,
    }
    return BenchResult(settings, machine, versions(), rates, rebuilds, tuple(rows))


def _row(
    calculator: HybridFF,
    atoms: Atoms,
    n_systems: int,
    interval: float | None,
    config: BenchConfig,
) -> Row:
    potential, skin, stress = calculator.potential, calculator.skin, config.stress
    batch = AtomsBatch.from_atoms(copies(atoms, n_systems), calculator.device)
    potential.check_elements(batch)
    step, terms = time_steps(potential, batch, skin, stress, config.repeats, config.block)
    return Row(
        name=atoms.get_chemical_formula(mode="hill"),
        atoms=len(atoms),
        systems=n_systems,
        step=step,
        terms=terms,
        rebuild_ms=time_rebuild(potential, batch, skin, stress, config.block),
        steps_per_rebuild=interval,
        memory=peak_memory(potential, batch, skin, stress),
        timestep=config.timestep,
    )


def _load(config: BenchConfig) -> HybridFF:
    return HybridFF.load(
        config.model or "",
        device=config.device,
        dtype=config.dtype,
        skin=config.skin,
        kernels=config.kernels,
    )
