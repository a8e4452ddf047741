"""Settings of a benchmark."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hff_ase.settings import TimeStep, setting
from hff_ase.settings.common import MODEL, ModelSettings

SYSTEM, MEASUREMENT = "Systems", "Measurement"


class BenchConfig(ModelSettings):
    """What is measured, and how."""

    defaults = {"model": "electrolyte"}  # noqa: RUF012
    alternatives = (("structure",), ("atoms", "recipe"))

    structure: str | None = setting(
        None,
        "Structure to measure, in any format that ASE reads (last frame); or use --atoms.",
        positional=True,
        metavar="FILE",
    )
    atoms: tuple[Annotated[int, Field(ge=1)], ...] = setting(
        (1000,), "Measure boxes of about this many atoms.", panel=SYSTEM, commas=True
    )
    recipe: str = setting("1.0 M LiPF6 in EC:DMC 1:1 v/v", "Recipe of these boxes.", panel=SYSTEM)
    replicas: tuple[Annotated[int, Field(ge=1)], ...] = setting(
        (1,), "Number of copies in one batch.", panel=SYSTEM, commas=True
    )
    kernels: Literal["auto", "reference"] = setting(
        "auto", "Compiled kernels where available, or plain torch.", panel=MODEL
    )
    skin: float = setting(1.0, "Skin of the neighbour list.", unit="Angstrom", panel=MODEL, ge=0)
    threads: int | None = setting(
        None, "Number of CPU threads.", panel=MEASUREMENT, shown="all", ge=1
    )
    timestep: TimeStep = setting(1.0, "Time step, for ns/day.", unit="fs", panel=MEASUREMENT)
    repeats: int = setting(5, "Number of blocks of steps.", panel=MEASUREMENT, ge=1)
    block: float = setting(
        0.25, "How long a block of steps lasts at least.", unit="s", panel=MEASUREMENT, gt=0
    )
    stress: bool = setting(True, "Also compute the stress.", panel=MEASUREMENT)
    md_steps: int = setting(
        100,
        "Number of MD steps, also to count neighbour searches; 0: times without them.",
        panel=MEASUREMENT,
        ge=0,
    )
    ensembles: tuple[str, ...] = setting(
        (),
        "Also time the batched MD engine, neighbour searches included: nvt,npt.",
        panel=MEASUREMENT,
        commas=True,
        metavar="ENSEMBLE",
    )
    overhead: bool = setting(False, "Compare ASE's MD with bare force calls.", panel=MEASUREMENT)

    @model_validator(mode="after")
    def _one_source(self) -> BenchConfig:
        if self.structure is not None and {"atoms", "recipe"} & self.model_fields_set:
            raise ValueError("expected either a structure or --atoms and --recipe, got both")
        return self
