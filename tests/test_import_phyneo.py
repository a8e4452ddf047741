"""The importer of PhyNEO's files, with a force field and weights of our own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from typer.testing import CliRunner

from hff_ase.calculators import HybridFF
from hff_ase.cli import app
from hff_ase.errors import CheckpointError
from hff_ase.importers.phyneo import KJ, example, frames_of, from_phyneo
from hff_ase.importers.phyneo_xml import read_xml
from hff_ase.importers.sgnn import read_weights
from hff_ase.terms import BondNetwork, FixedMultipoles, SlaterPairs

TYPES = {  # element, kz, kx, charge
    "1": ("O", "-2", "2", -0.5),
    "2": ("H", "1", "2", 0.2502),
    "3": ("P", "4", "4", 1.1),
    "4": ("F", "3", "", -0.35),
    "5": ("Li", "", "", 1.0),
}
RESIDUES = {
    "WAT": (["1", "2", "2"], [(0, 1), (0, 2)]),
    "PF6": (["4", "3", *["4"] * 5], [(1, k) for k in (0, 2, 3, 4, 5, 6)]),
    "LiA": (["5"], []),
}
SCALES = " ".join(f'mScale1{k}="0.00"' for k in range(2, 7))


def number(kind: str, k: int) -> float:
    return round(0.1 + 0.03 * int(kind) + 0.011 * k, 6)


def atoms_of(section: str, *names: tuple[str, float]) -> str:
    rows = "\n".join(
        f'<Atom type="{kind}" '
        + " ".join(f'{name}="{unit * number(kind, k)}"' for k, (name, unit) in enumerate(names))
        + "/>"
        for kind in TYPES
    )
    return f"<{section} {SCALES}>\n{rows}\n</{section}>"


def xml() -> str:
    types = "".join(
        f'<Type name="{kind}" class="{kind}" element="{row[0]}" mass="1.0"/>'
        for kind, row in TYPES.items()
    )
    residues = ""
    for name, (kinds, bonds) in RESIDUES.items():
        residues += f'<Residue name="{name}">'
        residues += "".join(f'<Atom name="A{k}" type="{t}"/>' for k, t in enumerate(kinds))
        residues += "".join(f'<Bond from="{i}" to="{j}"/>' for i, j in bonds) + "</Residue>"
    residues += '<Residue name="END"><Atom name="A" type="1"/><ExternalBond from="0"/></Residue>'
    moments = ""
    for kind, (_, kz, kx, charge) in TYPES.items():
        moments += f'<Atom type="{kind}" kz="{kz}" kx="{kx}" c0="{charge}" '
        moments += 'dX="0.001" dY="0.0005" dZ="0.004" qXX="1e-5" qYY="-3e-5" qZZ="2e-5" '
        moments += 'qXY="1e-6" qYZ="2e-6" qXZ="4e-6"/>'
        alpha = 0.0001 * int(kind)
        moments += f'<Polarize type="{kind}" polarizabilityXX="{alpha}" polarizabilityYY="{alpha}" '
        moments += f'polarizabilityZZ="{alpha}" thole="0.33"/>'
    c = ("C6", 0.001), ("C8", 0.0001), ("C10", 1e-6)
    sections = [
        atoms_of("ADMPDispPmeForce", *c),
        *(atoms_of(name, ("A", 100.0)) for name in (
            "SlaterSrEsForce", "SlaterSrPolForce", "SlaterSrDispForce", "SlaterDhfForce")),
        atoms_of("SlaterExForce", ("A", 100.0), ("B", 300.0)),
        atoms_of("QqTtDampingForce", ("Q", 1.0)),
    ]  # fmt: skip
    damping = "".join(
        f'<Atom type="{kind}" B="{300.0 * number(kind, 1)}" '
        + " ".join(f'{name}="{unit * number(kind, k)}"' for k, (name, unit) in enumerate(c))
        + "/>"
        for kind in TYPES
    )
    sections.append(f"<SlaterDampingForce {SCALES}>{damping}</SlaterDampingForce>")
    body = f"<AtomTypes>{types}</AtomTypes><Residues>{residues}</Residues>"
    body += f'<ADMPPmeForce lmax="2" {SCALES}>{moments}</ADMPPmeForce>' + "".join(sections)
    return f"<ForceField>{body}</ForceField>"


def weights(n_in: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = {"fc0": (n_in, 40, 20, 20), "fc1": (20, 20, 10)}
    found: dict[str, np.ndarray] = {"w": np.array(0.3)}
    for name, widths in sizes.items():
        for k, (a, b) in enumerate(itertools.pairwise(widths)):
            found[f"{name}.{k}.weight"] = rng.normal(size=(b, a)) / np.sqrt(a)
            found[f"{name}.{k}.bias"] = rng.normal(size=b) * 0.1
    found["fc_final.weight"], found["fc_final.bias"] = rng.normal(size=(1, 10)), np.zeros(1)
    return found


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "ff.xml").write_text(xml())
    np.savez(tmp_path / "sgnn.npz", **weights(188, 0))  # type: ignore[arg-type]
    np.savez(tmp_path / "abn.npz", **weights(306, 1))  # type: ignore[arg-type]
    return {name: tmp_path / name for name in ("ff.xml", "sgnn.npz", "abn.npz")}


def test_numbers_arrive_in_our_units(files: dict[str, Path]) -> None:
    potential = from_phyneo(files["ff.xml"], [files["sgnn.npz"], files["abn.npz"]])
    moments, slater = potential.terms["moments"], potential.terms["slater"]
    assert isinstance(moments, FixedMultipoles)
    assert isinstance(slater, SlaterPairs)
    assert moments.templates.names == ["WAT", "PF6", "LiA"]
    water = moments.config()["molecules"][0]
    assert water["dipole"][0] == pytest.approx([0.01, 0.0, 0.04])  # nm to A
    assert water["quadrupole"][0] == pytest.approx([0.006, 0.012, 0.0, 0.0012, 0.0])  # x 300
    assert water["frames"][:2] == [["bisector", 0, 1, 2], ["bisector", 0, 2, 1]]
    own = slater.config()["molecules"][0]
    assert own["exponent"][0] == pytest.approx(30.0 * number("1", 1))
    assert own["exchange"][0] == pytest.approx(np.sqrt(KJ) * 100.0 * number("1", 0))
    dispersion = potential.terms["dispersion"].config()["molecules"][0]
    assert dispersion["c10"][0] == pytest.approx(KJ * 1e10 * 1e-6 * number("1", 2))
    assert slater.factors == (0.0,) * 5
    bonded = potential.terms["bonded"]
    assert isinstance(bonded, BondNetwork)
    assert [entry["network"] for entry in bonded.config()["molecules"]] == [0, 1, None]
    torch.testing.assert_close(bonded.nets[1].mixing.detach(), torch.tensor(0.3).double())


def test_published_frames_are_the_first_that_fit(files: dict[str, Path]) -> None:
    field = read_xml(files["ff.xml"])
    kinds, bonds = RESIDUES["PF6"]
    entry = {"name": "PF6", "numbers": [9, 15, 9, 9, 9, 9, 9], "bonds": bonds}
    published = frames_of(entry, kinds, field.types, True)
    assert published[:3] == [["axial_and_lab", 0, 1], ["z_then_x", 1, 0, 2],
                             ["axial_and_lab", 2, 1]]  # fmt: skip
    own = frames_of(entry, kinds, field.types, False)
    assert [row for row in own if row[1] == 0] == [["axial", 0, 1]]
    of_centre = [row[2:] for row in own if row[1] == 1]
    assert len(of_centre) == 24  # six ligands, four others that are not opposite
    assert [0, 4] not in of_centre
    assert frames_of({"name": "LiA", "numbers": [3], "bonds": []}, ["5"], field.types, False) == []
    wrong = {**field.types, "4": {**field.types["4"], "kz": "1"}}
    with pytest.raises(CheckpointError, match="neighbours of types 1 and - for the axes of atom 0"):
        frames_of(entry, kinds, wrong, False)


def test_the_command_makes_a_model_that_runs(files: dict[str, Path], tmp_path: Path) -> None:
    output = tmp_path / "toy.hff"
    result = CliRunner().invoke(
        app,
        ["import-phyneo", str(files["ff.xml"]), "--sgnn", str(files["sgnn.npz"]),
         "--sgnn", str(files["abn.npz"]), "-o", str(output)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "for WAT, PF6, LiA" in result.output
    calculator = HybridFF.load(output)
    assert "GPL-3.0" in calculator.info.licence
    atoms = example(calculator.potential)
    turned = atoms.copy()
    turned.rotate(70, (3, 1, 2))
    mirrored = atoms.copy()
    mirrored.positions[:, 0] *= -1.0
    order = np.random.default_rng(0).permutation(len(atoms))
    atoms.calc = calculator
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    for other in (turned, mirrored, atoms[order]):
        other.info["charge"] = 0.0
        other.calc = calculator
        assert other.get_potential_energy() == pytest.approx(energy, abs=1e-8)
    np.testing.assert_allclose(np.cross(atoms.positions, forces).sum(0), 0.0, atol=1e-6)


def test_some_molecules_and_missing_networks(files: dict[str, Path]) -> None:
    some = from_phyneo(files["ff.xml"], [files["sgnn.npz"]])  # ions of the other kind are left out
    assert some.terms["bonded"].config()["molecules"][-1]["name"] == "LiA"
    assert some.elements == ("H", "Li", "O")
    with pytest.raises(CheckpointError, match="network of 6 bonds at an atom for PF6, got"):
        from_phyneo(files["ff.xml"], [files["sgnn.npz"]], ["PF6"])
    text = xml().replace('kz="-2" kx="2"', 'kz="-2" kx="3"')  # of an atom that water has not
    files["ff.xml"].write_text(text)
    both = [files["sgnn.npz"], files["abn.npz"]]
    left = from_phyneo(files["ff.xml"], both).terms["moments"].config()["molecules"]
    assert [entry["name"] for entry in left] == ["PF6", "LiA"]
    with pytest.raises(CheckpointError, match="for the axes of atom 0"):
        from_phyneo(files["ff.xml"], both, ["WAT"])
    with pytest.raises(CheckpointError, match="molecules among WAT, PF6, LiA, got 'EC'"):
        from_phyneo(files["ff.xml"], [files["sgnn.npz"]], ["EC"])


def test_other_files_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    repeated = f'type="2" B="{300.0 * number("2", 1)}'
    assert repeated in xml()
    bad: dict[str, Any] = {
        "declarations": '<!DOCTYPE a [<!ENTITY b "c">]>' + xml(),
        "ADMPPmeForce": "<ForceField/>",
        "another B of type 2": xml().replace(repeated, 'type="2" B="1.0'),
        "factors that are not the same": xml().replace('mScale16="0.00"', 'mScale16="0.50"', 1),
        "ParseError": xml()[:-5],
    }  # fmt: skip
    for message, text in bad.items():
        path = tmp_path / "bad.xml"
        path.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            read_xml(path)
    with pytest.raises(CheckpointError, match=r"got .*No such file"):
        read_xml(tmp_path / "none.xml")
    np.savez(tmp_path / "odd.npz", **weights(190, 0))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"a network of 188 or 306 features .*, got 190"):
        read_weights(tmp_path / "odd.npz")
    np.savez(tmp_path / "objects.npz", w=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match="weights of sGNN as arrays"):  # nothing is unpickled
        read_weights(tmp_path / "objects.npz")


def test_as_published_cuts_sharply(files: dict[str, Path]) -> None:
    published, own = (
        from_phyneo(files["ff.xml"], [files["sgnn.npz"]], as_published=flag)
        for flag in (True, False)
    )
    assert published.terms["slater"].config()["switch_width"] == 0.0
    assert own.terms["slater"].config()["switch_width"] == 1.0
    atoms = Atoms("OHHLi", [[0, 0, 0], [0.96, 0, 0], [-0.2, 0.94, 0], [-0.9, -1.8, 0.3]])
    atoms.info["charge"] = 1.0
    energies = []
    for potential in (published, own):
        atoms.calc = HybridFF(potential)
        energies.append(atoms.get_potential_energy())
    assert energies[0] != pytest.approx(energies[1], abs=1e-9)
    assert energies[0] == pytest.approx(energies[1], abs=0.1)
