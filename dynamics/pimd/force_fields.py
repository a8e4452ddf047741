"""The models that i-PI evaluates, on how many beads, and how: force fields and drivers' options.

With a cheap inner model the potential of P beads is

    sum_P U_cheap + P/P' sum_P' (U_full - U_cheap),

the second sum over the ring polymer contracted to P' beads (Markland and Manolopoulos, J. Chem.
Phys. 129, 024105 (2008)); with multiple time steps its forces act once per outer step (Tuckerman,
Berne, Martyna, J. Chem. Phys. 97, 1990 (1992)). One driver gives the whole difference, so that both
models share a search for neighbours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from hff_ase.dynamics.pimd.config import PIMDConfig
from hff_ase.errors import ConfigError
from hff_ase.models import model_path

START = "start.extxyz"
FULL, INNER, CORRECTION = "hff", "inner", "correction"
QUEUEING = 2e-4  # s per bead of a few atoms; twice what i-PI takes


@dataclass(frozen=True)
class ForceField:
    """One of i-PI's force fields.

    Attributes:
        name: in i-PI's input.
        beads: on which it is evaluated.
        batch: structures in one call of a driver.
        options: of the driver.
        outer: whether its forces act once per timestep, rather than at every inner step.
    """

    name: str
    beads: int
    batch: int
    options: dict[str, str]
    outer: bool


def driver_path() -> Path:
    """Absolute path of the driver file, for i-PI's ``pes_path`` and ``-P``."""
    return Path(__file__).resolve().parents[1] / "hff_ipi_driver.py"


def force_fields(config: PIMDConfig) -> list[ForceField]:
    """The force fields of a run: the model, or the inner model and what is missing to the full one.

    Raises:
        ConfigError: a path that i-PI's format has no way to write.
    """
    full = {"model": _path(str(config.model))}
    full["committee"] = ":".join(_path(name) for name in config.committee)
    full["extras"] = ":".join(config.extras)
    if config.inner_model is None:
        return [_force_field(config, FULL, config.beads, full)]
    inner = _path(config.inner_model)
    return [
        _force_field(config, INNER, config.beads, {"model": inner}),
        _force_field(config, CORRECTION, config.outer_beads, full | {"minus": inner}),
    ]


def _path(name: str) -> str:
    return str(model_path(name).resolve())


def _force_field(config: PIMDConfig, name: str, beads: int, models: dict[str, str]) -> ForceField:
    batch = beads // config.drivers
    common = {"template": START, "device": config.device, "dtype": config.dtype}
    options = common | models | {"beads": str(batch) if batch > 1 else ""}
    for key, value in options.items():
        if re.search(r"[,{}\n]", value) or (key in ("model", "minus") and "=" in value):
            raise ConfigError(f"expected a path without ',', '{{' or '=' for {key}, got {value}")
    return ForceField(name, beads, batch, {k: v for k, v in options.items() if v}, name != INNER)


def address_of(field: ForceField, address: str) -> str:
    """Name of a force field's socket; ``address`` is the run's."""
    return address if field.name == FULL else f"{address}_{field.name}"


def force_fields_xml(config: PIMDConfig, n_atoms: int, address: str) -> str:
    """The elements that say how i-PI reaches the models."""
    return "\n".join(_xml(config, field, n_atoms, address) for field in force_fields(config))


def latency(n_atoms: int, n_beads: int) -> float:
    """Seconds that i-PI waits between two looks at what is queued for a driver.

    It sends what it finds, filled up to a whole batch. Beads are queued one by one after the
    integrator's part of a step: a look in between makes two batches of one. So it waits for longer
    than i-PI takes from one evaluation to the next (docs/pimd.md).
    """
    return 1e-4 if n_beads == 1 else QUEUEING * n_beads * (1.0 + n_atoms / 400.0)


def _xml(config: PIMDConfig, field: ForceField, n_atoms: int, address: str) -> str:
    # pbc: unwrapped positions, so that neighbour lists last and dipoles are continuous
    if config.transport == "ffdirect":
        options = ", ".join(f"{name}: {value}" for name, value in field.options.items())
        # Not in a thread: an error of the driver then ends i-PI, which would wait forever. Beads
        # and batch are as many, so that no incomplete batch is left over.
        return f"""  <ffdirect name="{field.name}" pbc="False" threaded="False">
    <pes>custom</pes>
    <pes_path>{escape(str(driver_path()))}</pes_path>
    <batch_size>{field.batch}</batch_size>
    <parameters>{{ {escape(options)} }}</parameters>
  </ffdirect>"""
    mode = "unix" if config.transport == "socket" else "shm"
    return f"""  <ffsocket name="{field.name}" mode="{mode}" pbc="False">
    <address>{address_of(field, address)}</address>
    <latency>{latency(n_atoms, field.beads):.2g}</latency>
    <batch_size>{field.batch}</batch_size>
  </ffsocket>"""


def forces_xml(config: PIMDConfig) -> str:
    """How the force fields make up the force: beads of each, and at which time steps."""
    lines = []
    for field in force_fields(config):
        contracted = f' nbeads="{field.beads}"' if field.beads < config.beads else ""
        inside = ""
        if config.inner_steps > 1:
            inside = f"<mts_weights>{'[1, 0]' if field.outer else '[0, 1]'}</mts_weights>"
        if contracted and config.extras:
            # i-PI drops extras of contracted beads unless it may interpolate them
            inside += f"<interpolate_extras>[{', '.join(config.extras)}]</interpolate_extras>"
        lines.append(f'      <force forcefield="{field.name}"{contracted}>{inside}</force>')
    return "    <forces>\n" + "\n".join(lines) + "\n    </forces>"
