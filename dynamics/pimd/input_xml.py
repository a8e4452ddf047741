"""What i-PI reads: the input file and the structure in i-PI's orientation."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
from ase import Atoms
from ase.data import atomic_masses

from hff_ase.dynamics.pimd.config import PIMDConfig
from hff_ase.dynamics.pimd.force_fields import START, force_fields_xml, forces_xml
from hff_ase.errors import ConfigError
from hff_ase.reading import read_structure, refuse_constraints
from hff_ase.structures import check_structure

PREFIX = "pimd"
PROPERTIES = f"{PREFIX}.properties"
CHECKPOINTS = (f"{PREFIX}.checkpoint_a", f"{PREFIX}.checkpoint_b")
CENTROID, BEAD = f"{PREFIX}.centroid.xyz", "bead"
BEADS_KEPT = 4  # in trajectories: distances of beads decorrelate along the ring, disks are finite
SPLITTING = "baoab"  # a tenth of the time step's error: docs/decisions/pimd-splitting.md
VACUUM = 100.0  # Angstrom around a molecule, for i-PI, which always has a cell


def load_start(path: str) -> Atoms:
    """The last frame of a file as i-PI wants it: first lattice vector along x, second in xy.

    Raises:
        StructureError: it cannot be read, has constraints, or no energy can be computed for it.
    """
    atoms = read_structure(path)
    atoms.calc = None
    refuse_constraints(atoms, f" in {path}")
    check_structure(atoms, f" in {path}")
    if atoms.pbc.all():
        upright, rotation = atoms.cell.standard_form()
        positions = atoms.positions @ rotation.T
        atoms.set_cell(upright)
        atoms.positions = positions
    return atoms


def labels(atoms: Atoms) -> list[str]:
    """Names of the atoms for i-PI: elements, and D for heavy hydrogen."""
    heavy = (atoms.numbers == 1) & (atoms.get_masses() > 1.5)
    return ["D" if is_heavy else s for s, is_heavy in zip(atoms.symbols, heavy, strict=True)]


def input_xml(config: PIMDConfig, atoms: Atoms, address: str = "hff") -> str:
    """The whole input; ``address`` names the socket where there is one.

    Raises:
        ConfigError: matrices of a thermostat that do not fit.
    """
    return f"""<simulation mode="md" verbosity="low" safe_stride="20">
{_outputs(config, atoms)}
  <total_steps>{config.n_steps}</total_steps>
{_wall_time(config)}  <prng><seed>{config.seed}</seed></prng>
{force_fields_xml(config, len(atoms), address)}
  <system>
{_initialize(config, atoms)}
{forces_xml(config)}
    <ensemble>
      <temperature units="kelvin">{config.temperature}</temperature>
{_pressure(config)}    </ensemble>
    <motion mode="dynamics">
      <dynamics mode="{config.ensemble}" splitting="{SPLITTING}">
        <timestep units="femtosecond">{config.timestep}</timestep>{_nmts(config)}
{_thermostat(config)}
{_barostat(config)}      </dynamics>
    </motion>
  </system>
</simulation>
"""


def _outputs(config: PIMDConfig, atoms: Atoms) -> str:
    ev = "{electronvolt}"
    columns = [
        "step", "time{picosecond}", f"conserved{ev}", "temperature{kelvin}", f"potential{ev}",
        f"kinetic_md{ev}", f"kinetic_cv{ev}", f"kinetic_td{ev}",
    ]  # fmt: skip
    columns += [f"kinetic_cv({name}){ev}" for name in sorted(set(labels(atoms)))]
    if atoms.pbc.all():
        columns += ["volume{angstrom3}", "density{g/cm3}", "pressure_cv{bar}"]
    checkpoints = "\n".join(
        f'    <checkpoint filename="{name.removeprefix(PREFIX + ".")}" overwrite="True" '
        f'stride="{config.checkpoint_interval}"/>'
        for name in CHECKPOINTS
    )
    # beads that are evenly spaced along the ring, for averages over beads
    every = max(1, config.beads // BEADS_KEPT)
    frames = f'stride="{config.trajectory_interval}" cell_units="angstrom"'
    extras = "".join(
        f'    <trajectory filename="{name}" stride="{config.statistics_interval}" '
        f'extra_type="{name}">extras</trajectory>\n'
        for name in config.extras
    )
    return f"""  <output prefix="{PREFIX}">
    <properties filename="properties" stride="{config.statistics_interval}" flush="1">
      [ {", ".join(columns)} ]
    </properties>
    <trajectory filename="centroid" {frames}>x_centroid{{angstrom}}</trajectory>
    <trajectory filename="{BEAD}" bead="{-every}" {frames}>positions{{angstrom}}</trajectory>
{extras}{checkpoints}
  </output>"""


def _wall_time(config: PIMDConfig) -> str:
    if config.max_hours is None:
        return ""
    return f"  <total_time>{config.max_hours * 3600:.0f}</total_time>\n"


def _nmts(config: PIMDConfig) -> str:
    return f"\n        <nmts>[1, {config.inner_steps}]</nmts>" if config.inner_steps > 1 else ""


def _initialize(config: PIMDConfig, atoms: Atoms) -> str:
    velocities = (
        f'      <velocities mode="thermal" units="kelvin">{config.temperature}</velocities>'
    )
    if config.start_from is not None:
        source = f'      <file mode="chk">{escape(str(Path(config.start_from).resolve()))}</file>'
    else:
        source = f'      <file mode="ase" units="angstrom">{START}</file>'
        if not atoms.pbc.all():
            source = f"""      <positions mode="ase" units="angstrom">{START}</positions>
      <masses mode="ase">{START}</masses>
      <labels mode="ase">{START}</labels>
      <cell mode="abc" units="angstrom">[{VACUUM}, {VACUUM}, {VACUUM}]</cell>"""
        standard = np.allclose(atoms.get_masses(), atomic_masses[atoms.numbers], atol=1e-6)
        if not standard:
            masses = ", ".join(f"{mass:.6f}" for mass in atoms.get_masses())
            names = ", ".join(labels(atoms))
            source += f"""
      <masses mode="manual" units="dalton">[{masses}]</masses>
      <labels mode="manual">[{names}]</labels>"""
    return f"""    <initialize nbeads="{config.beads}">
{source}
{velocities}
    </initialize>"""


def _pressure(config: PIMDConfig) -> str:
    if config.ensemble == "nvt":
        return ""
    return f'      <pressure units="bar">{config.pressure}</pressure>\n'


def _thermostat(config: PIMDConfig) -> str:
    tau = f'<tau units="femtosecond">{config.tdamp}</tau>'
    if config.thermostat == "pile_l":
        return f'        <thermostat mode="pile_l">{tau}</thermostat>'
    if config.thermostat == "trpmd":
        # Half of critical damping of the springs, and nothing on the centroid (1 ms is as good as
        # never); Rossi, Ceriotti, Manolopoulos, J. Chem. Phys. 140, 234116 (2014)
        never = '<tau units="femtosecond">1e12</tau><pile_lambda>0.5</pile_lambda>'
        return f'        <thermostat mode="pile_l">{never}</thermostat>'
    return f'        <thermostat mode="nm_gle">\n{gle_matrices(config)}\n        </thermostat>'


def gle_matrices(config: PIMDConfig) -> str:
    """The A and C elements of the user's file, checked against the number of beads.

    Raises:
        ConfigError: no such elements, or matrices for another number of beads.
    """
    text = Path(str(config.gle)).read_text(encoding="utf-8")
    body = re.sub(r"<\?xml.*?\?>", "", text)
    try:
        root = ElementTree.fromstring(f"<file>{body}</file>")
    except ElementTree.ParseError as error:
        raise ConfigError(f"expected XML with A and C in {config.gle}, got: {error}") from None
    found = []
    for name in ("A", "C"):
        element = next(root.iter(name), None)
        if element is None:
            raise ConfigError(f"expected an element {name} in {config.gle}, got none")
        shape = [int(n) for n in re.findall(r"\d+", element.get("shape", ""))]
        if len(shape) != 3 or shape[0] != config.beads:
            raise ConfigError(
                f"expected {name} of {config.gle} with shape ({config.beads}, n, n) for "
                f"{config.beads} beads, got {element.get('shape')}"
            )
        element.tail = None
        found.append(ElementTree.tostring(element, encoding="unicode"))
    return "\n".join(found)


def _barostat(config: PIMDConfig) -> str:
    if config.ensemble == "nvt":
        return ""
    return f"""        <barostat mode="isotropic">
          <tau units="femtosecond">{config.pdamp}</tau>
          <thermostat mode="langevin">
            <tau units="femtosecond">{config.tdamp}</tau>
          </thermostat>
        </barostat>
"""
