"""Equilibrated samples of liquids by a model: boxes, equilibration, production, ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ase import Atoms

from hff_ase.calculators.finetune.ensembles import Ensemble
from hff_ase.calculators.finetune.targets import Target
from hff_ase.calculators.hybrid import HybridFF
from hff_ase.dynamics.build import build_box
from hff_ase.dynamics.equilibration import EquilibrationConfig, EquilibrationRun
from hff_ase.dynamics.replicas import ReplicaConfig, ReplicaRun
from hff_ase.dynamics.reporters.run_folder import CHECKPOINT
from hff_ase.dynamics.sampling.config import SamplingSettings
from hff_ase.dynamics.sampling.reading import read_ensembles

EQUILIBRATION, PRODUCTION, KEPT = "equilibrate", "production", "ensembles"


def states_of(targets: Sequence[Target]) -> list[tuple[str, float, float]]:
    """Liquids, temperatures and pressures that targets need samples of."""
    found = dict.fromkeys((t.liquid, t.temperature, t.pressure) for t in targets)
    return list(found)


def sample(
    calc: HybridFF,
    states: Sequence[tuple[str, float, float]],
    folder: Path,
    settings: SamplingSettings,
    boxes: Mapping[str, Sequence[Atoms]] | None = None,
) -> list[Ensemble]:
    """Ensembles of liquids at constant pressure; runs already in the folder are continued.

    Args:
        calc: the model.
        states: liquid, K and bar of each.
        folder: of the runs; kept ensembles are read from it.
        settings: of sampling.
        boxes: structures to begin with instead of packed ones, by liquid.
    """
    found = []
    for number, (liquid, kelvin, bar) in enumerate(states):
        own = folder / f"{number:02d}"
        kept = own / f"{KEPT}.npz"
        if not kept.exists():
            own.mkdir(parents=True, exist_ok=True)
            given = (boxes or {}).get(liquid)
            ready = _equilibrated(calc, liquid, kelvin, bar, own, settings, given)
            _produced(calc, ready, kelvin, bar, own, settings)
            (ensemble,) = read_ensembles([own / PRODUCTION])
            ensemble.save(kept)
        found.append(Ensemble.load(kept))
    return found


def _equilibrated(
    calc: HybridFF,
    liquid: str,
    kelvin: float,
    bar: float,
    folder: Path,
    settings: SamplingSettings,
    boxes: Sequence[Atoms] | None,
) -> list[Atoms]:
    run_folder = folder / EQUILIBRATION
    if (run_folder / CHECKPOINT).exists():
        run = EquilibrationRun.resume(run_folder, calc)
    else:
        seeds = [settings.seed + k for k in range(settings.replicas)]
        packed = boxes or [build_box(liquid, settings.atoms, seed=seed) for seed in seeds]
        config = EquilibrationConfig.load(
            {
                "temperature": kelvin,
                "pressure": bar,
                "timestep": settings.timestep,
                "hydrogen_mass": settings.hydrogen_mass,
                "max_time": settings.max_time,
                "seed": settings.seed,
                "output": str(run_folder),
                "progress": False,
            }
        )
        run = EquilibrationRun.start(config, packed, calc)
    run.run()
    return run.ready()


def _produced(
    calc: HybridFF,
    boxes: Sequence[Atoms],
    kelvin: float,
    bar: float,
    folder: Path,
    settings: SamplingSettings,
) -> None:
    run_folder = folder / PRODUCTION
    if (run_folder / CHECKPOINT).exists():
        run = ReplicaRun.resume(run_folder, calc)
    else:
        every = max(1, round(settings.interval * 1000.0 / settings.timestep))
        config = ReplicaConfig.load(
            {
                "ensemble": "npt",
                "time": settings.time,
                "temperature": kelvin,
                "pressure": bar,
                "timestep": settings.timestep,
                "hydrogen_mass": settings.hydrogen_mass,
                "trajectory_interval": every,
                "statistics_interval": max(1, every // 5),
                "minimize": False,
                "seed": settings.seed + 1,
                "output": str(run_folder),
                "progress": False,
            }
        )
        run = ReplicaRun.start(config, boxes, calc)
    run.run()
