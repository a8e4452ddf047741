"""A whole benchmark: systems of several sizes, one model, one machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ase import Atoms

from hff_ase.batch import AtomsBatch
from hff_ase.bench.boxes import copies, large_box
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
    model: str | Path | HybridFF,
    structures: Sequence[Atoms] | None = None,
    *,
    sizes: Sequence[int] = (),
    recipe: str = "",
    replicas: Sequence[int] = (1,),
    kernels: str = "auto",
    device: str = "cpu",
    dtype: str = "float32",
    skin: float = 1.0,
    threads: int | None = None,
    timestep: float = 1.0,
    stress: bool = True,
    repeats: int = 5,
    md_steps: int = 100,
    overhead: bool = False,
    ensembles: Sequence[str] = (),
    progress: Callable[[str], None] = lambda message: None,
) -> BenchResult:
    """Measure a model.

    Args:
        model: a shipped model's name, an .hff file, or a calculator (then ``kernels``, ``device``,
            ``dtype`` and ``skin`` are its own).
        structures: what to measure; None packs boxes of ``recipe`` with about ``sizes`` atoms.
        replicas: so many copies of each structure in one batch, one row for each number.
        kernels: "auto" or "reference", see `HybridFF`.
        skin: of the neighbour list, Angstrom.
        threads: of torch and numba; None leaves them as they are.
        timestep: fs, for ns/day and for counting neighbour searches.
        stress: whether a step computes the stress too, as `HybridFF` does.
        repeats: blocks of steps; medians and ranges are over them.
        md_steps: of molecular dynamics in which neighbour searches are counted, on the smallest
            structure (of a recipe: on at most 1,000 atoms); 0 leaves the searches out of the
            times.
        ensembles: run whole molecular dynamics of the batched engine too ("nve", "nvt", "nvt-nhc",
            "npt"), ``md_steps`` steps of each.
        overhead: compare ASE's velocity Verlet with bare force calls too (single systems).
        progress: told what is being measured.

    Raises:
        ConfigError: settings that make no sense.
        CheckpointError: no such model.
        RecipeError: a box cannot be packed.
        StructureError: a structure that the model cannot evaluate.
    """
    _check(repeats, md_steps, timestep, sizes if structures is None else (1,), replicas)
    check_ensembles(ensembles)
    if ensembles and md_steps < 1:
        raise ConfigError("expected md_steps of at least 1 with ensembles, got 0")
    if not isinstance(model, HybridFF):
        name = str(model)
        model = HybridFF.load(model, device=device, dtype=dtype, skin=skin, kernels=kernels)
    else:
        name = model.info.name
    with using_threads(threads) as n_threads:
        if structures is None:
            progress("packing boxes")
            structures = [large_box(recipe, size) for size in sizes]
            moving = large_box(recipe, min(MD_ATOMS, *sizes))
        else:
            recipe = ""
            moving = min(structures, key=len)
        machine = hardware(model.device)
        rates = yardsticks(model.device)
        if md_steps:
            progress(f"counting neighbour searches in MD of {len(moving)} atoms")
        rebuilds = count_rebuilds(model, moving, timestep, md_steps)
        interval = None if rebuilds is None else rebuilds.interval
        rows = []
        for atoms in structures:
            for n_systems in replicas:
                progress(f"measuring {n_systems} x {len(atoms)} atoms")
                row = _row(model, atoms, n_systems, interval, timestep, stress, repeats)
                if ensembles:
                    progress(f"running MD of {n_systems} x {len(atoms)} atoms")
                row = replace(
                    row,
                    dynamics=time_dynamics(
                        model, atoms, n_systems, ensembles, timestep, md_steps, repeats
                    ),
                    ase=ase_overhead(model, atoms, timestep, repeats)
                    if overhead and n_systems == 1
                    else None,
                )
                rows.append(row)
    settings = {
        "model": name,
        "terms": [term for term, _ in model.potential.named_terms()],
        "kernels": model.potential.kernels,
        "backend": model.potential.backend(model.device),
        "device": str(model.device),
        "dtype": model.dtype,
        "skin": model.skin,
        "threads": n_threads,
        "timestep": timestep,
        "stress": stress,
        "repeats": repeats,
        "recipe": recipe or None,
    }
    return BenchResult(settings, machine, versions(), rates, rebuilds, tuple(rows))


def _row(
    calculator: HybridFF,
    atoms: Atoms,
    n_systems: int,
    interval: float | None,
    timestep: float,
    stress: bool,
    repeats: int,
) -> Row:
    potential, skin = calculator.potential, calculator.skin
    batch = AtomsBatch.from_atoms(copies(atoms, n_systems), calculator.device)
    potential.check_elements(batch)
    step, terms = time_steps(potential, batch, skin, stress, repeats)
    return Row(
        name=atoms.get_chemical_formula(mode="hill"),
        atoms=len(atoms),
        systems=n_systems,
        step=step,
        terms=terms,
        rebuild_ms=time_rebuild(potential, batch, skin, stress),
        steps_per_rebuild=interval,
        memory=peak_memory(potential, batch, skin, stress),
        timestep=timestep,
    )


def _check(
    repeats: int, md_steps: int, timestep: float, sizes: Sequence[int], replicas: Sequence[int]
) -> None:
    for what, number, least in (
        ("repeats", repeats, 1),
        ("md_steps", md_steps, 0),
        ("atoms", min(sizes, default=0), 1),
        ("replicas", min(replicas, default=0), 1),
    ):
        if number < least:
            raise ConfigError(f"expected {what} of at least {least}, got {number}")
    if not 0 < timestep < float("inf"):
        raise ConfigError(f"expected a positive time step in fs, got {timestep}")
