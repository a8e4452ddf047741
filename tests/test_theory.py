"""Outputs of quantum codes as labelled frames: numbers, units, level of theory and charge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.units import Bohr, Hartree

from hff_ase.data import labels_of, read_frames
from hff_ase.data.theory import level_of_theory

ORCA = """
                                 *****************
                                 * O   R   C   A *
                                 *****************
                         Program Version 5.0.4 -  RELEASE  -
================================================================================
                                       INPUT FILE
================================================================================
NAME = hydroxide.inp
|  1> ! wB97M-V def2-TZVPPD TightSCF EnGrad PAL4  # as everywhere
|  2> * xyz -1 1
Number of atoms                             ...      2
---------------------------------
CARTESIAN COORDINATES (ANGSTROEM)
---------------------------------
  O      0.000000    0.000000    0.000000
  H      0.000000    0.000000    0.964000

 Total Charge           Charge          ....   -1
FINAL SINGLE POINT ENERGY       -75.800000000000
------------------
CARTESIAN GRADIENT
------------------

   1   O   :   -0.000000000    0.000000000    0.010000000
   2   H   :    0.000000000   -0.000000000   -0.010000000

                             ****ORCA TERMINATED NORMALLY****
"""

GAUSSIAN = """ Entering Gaussian System, Link 0=g16
 Gaussian 16:  ES64L-G16RevC.01  3-Jul-2019
 ----------------------------------------------------------
 #p b3lyp/6-311+g(d,p) force EmpiricalDispersion=GD3BJ nosy
 mm
 ----------------------------------------------------------
 Charge =  1 Multiplicity = 1
                          Input orientation:
 ---------------------------------------------------------------------
 Center     Atomic      Atomic             Coordinates (Angstroms)
 Number     Number       Type             X           Y           Z
 ---------------------------------------------------------------------
      1          3           0        0.000000    0.000000    0.000000
 ---------------------------------------------------------------------
 SCF Done:  E(RB3LYP) =  -7.28491824     A.U. after    6 cycles
 Center     Atomic                   Forces (Hartrees/Bohr)
 Number     Number              X              Y              Z
 -------------------------------------------------------------------
      1        3           0.000000000    0.000000000    0.020000000
 -------------------------------------------------------------------
"""


def test_an_output_of_orca_is_a_labelled_frame(tmp_path: Path) -> None:
    (tmp_path / "hydroxide.out").write_text(ORCA)
    (atoms,) = read_frames(tmp_path / "hydroxide.out")
    labels = labels_of([atoms])
    assert float(labels.energy[0]) == pytest.approx(-75.8 * Hartree)
    np.testing.assert_allclose(labels.forces[:, 2], [-0.01 * Hartree / Bohr, 0.01 * Hartree / Bohr])
    assert atoms.info["method"] == "ORCA wB97M-V def2-TZVPPD"
    assert (atoms.info["charge"], atoms.info["code_version"]) == (-1, "5.0.4")
    assert atoms.info["source"] == "hydroxide:0"


def test_an_output_of_gaussian_is_a_labelled_frame(tmp_path: Path) -> None:
    (tmp_path / "lithium.log").write_text(GAUSSIAN)
    (atoms,) = read_frames(tmp_path / "lithium.log")
    labels = labels_of([atoms])
    assert float(labels.energy[0]) == pytest.approx(-7.28491824 * Hartree)
    assert float(labels.forces[0, 2]) == pytest.approx(0.02 * Hartree / Bohr)
    assert atoms.info["method"] == "Gaussian b3lyp/6-311+g(d,p) EmpiricalDispersion=GD3BJ"
    assert atoms.info["charge"] == 1


@pytest.mark.parametrize(
    ("text", "method", "charge"),
    [
        (
            "vasp.6.3.2 27Jun22\n   ENCUT  =  520.0 eV\n   GGA     =    PE    GGA type\n"
            "   IVDW    =    12\n   LHFCALC =      F    Hartree Fock\n",
            "VASP GGA=PE ENCUT=520.0 IVDW=12", None,
        ),
        (
            '<modeling>\n<i name="version" type="string">6.4.1 </i><i name="ENCUT">  400.0</i>\n'
            '<i type="string" name="GGA">PE</i>\n', "VASP GGA=PE ENCUT=400.0", None,
        ),
        ("  Invoking FHI-aims ...\n  xc   pbe0\n  charge  -1.0\n", "FHI-aims pbe0", -1),
        (
            "     Program PWSCF v.7.2 starts\n     kinetic-energy cutoff     =      60.0000  Ry\n"
            "     Exchange-correlation= PBE\n", "Quantum ESPRESSO PBE 60 Ry", None,
        ),
        ("2\nenergy=1\nH 0 0 0\n", None, None),
    ],
)  # fmt: skip
def test_levels_of_theory(text: str, method: str | None, charge: int | None) -> None:
    found = level_of_theory(text)
    assert found.get("method") == method
    assert found.get("charge") == charge
