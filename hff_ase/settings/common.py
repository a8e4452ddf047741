"""Settings that several commands have, declared once."""

from __future__ import annotations

from typing import Any, Literal

from hff_ase.settings.base import Section, Settings
from hff_ase.settings.declare import setting

MODEL, OUTPUT, RESTART = "System and model", "Output", "Restart"
WHERE = "Where it runs"
BOX_ATOMS = 1000  # of a box made from a recipe, where nobody says how many


DEVICE: Any = setting("cpu", "cpu or cuda.", panel=MODEL, metavar="DEVICE")
WORKERS: Any = setting(
    1, "Number of worker processes or jobs, one run at a time in each.", panel=WHERE, ge=1
)
THREADS: Any = setting(1, "Threads per worker.", panel=WHERE, ge=1)
CLUSTER: Any = setting(
    None,
    "Yaml file that describes a dask-jobqueue cluster, such as Slurm.",
    panel=WHERE,
    metavar="FILE",
)


class PrecisionSettings(Settings):
    """Precision and device of a model."""

    dtype: Literal["float32", "float64"] = setting(
        "float32",
        "Precision of the model's networks; geometry and sums are float64.",
        panel=MODEL,
    )
    device: str = DEVICE


class ModelSettings(PrecisionSettings):
    """A model, and how it is evaluated."""

    model: str | None = setting(
        None, "Name of a shipped model, or path of an .hff file.", panel=MODEL, metavar="MODEL"
    )


class TermSettings(PrecisionSettings):
    """A model of which some terms may be left out."""

    without: tuple[str, ...] = setting((), "Energy term to leave out.", panel=MODEL, metavar="TERM")


class RunSwitches(Section):
    """Switches of commands that start or resume a run."""

    resume: str | None = setting(
        None, "Folder of a run to continue.", panel=RESTART, metavar="FOLDER"
    )
    force: bool = setting(False, "Replace a run in the output folder.", panel=RESTART)


class PrintSettings(Settings):
    """Settings of commands that print."""

    json_: bool = setting(False, "Print as JSON.", panel=OUTPUT, alias="json")
