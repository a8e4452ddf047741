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
        "What to measure, anything ASE reads (the last frame); or --atoms.",
        positional=True,
        metavar="FILE",
    )
    atoms: tuple[Annotated[int, Field(ge=1)], ...] = setting(
        (1000,), "Boxes of about so many atoms.", panel=SYSTEM, commas=True
    )
    recipe: str = setting("1.0 M LiPF6 in EC:DMC 1:1 v/v", "What fills them.", panel=SYSTEM)
    replicas: tuple[Annotated[int, Field(ge=1)], ...] = setting(
        (1,), "So many copies in one batch.", panel=SYSTEM, commas=True
    )
    kernels: Literal["auto", "reference"] = setting(
        "auto", "Compiled kernels where there are some, or plain torch.", panel=MODEL
    )
    skin: float = setting(1.0, "Of the neighbour list.", unit="Angstrom", panel=MODEL, ge=0)
    threads: int | None = setting(None, "Of the CPU.", panel=MEASUREMENT, shown="all", ge=1)
    timestep: TimeStep = setting(1.0, "For ns/day.", unit="fs", panel=MEASUREMENT)
    repeats: int = setting(5, "Blocks of steps.", panel=MEASUREMENT, ge=1)
    stress: bool = setting(True, "Compute the stress too.", panel=MEASUREMENT)
    md_steps: int = setting(
        100,
        "Steps of MD, also to count neighbour searches; 0: times without them.",
        panel=MEASUREMENT,
        ge=0,
    )
    ensembles: tuple[str, ...] = setting(
        (),
        "Time the batched MD engine too, searches included: nvt,npt.",
        panel=MEASUREMENT,
        commas=True,
        metavar="ENSEMBLE",
    )
    overhead: bool = setting(False, "ASE's MD against bare force calls.", panel=MEASUREMENT)

    @model_validator(mode="after")
    def _one_source(self) -> BenchConfig:
        if self.structure is not None and {"atoms", "recipe"} & self.model_fields_set:
            raise ValueError("expected either a structure or --atoms and --recipe, got both")
        return self
