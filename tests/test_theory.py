"""Outputs of quantum codes as labelled frames: numbers, units, level of theory and charge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.units import Bohr, GPa, Hartree

from hff_ase.data import labels_of, read_frames
from hff_ase.data.theory import level_of_theory
from hff_ase.errors import StructureError

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


QCHEM = """
                  Welcome to Q-Chem
     A Quantum Leap Into The Future Of Chemistry

 Q-Chem 5.1, Q-Chem, Inc., Pleasanton, CA (2018)

 Q-Chem 5.1.2 for Intel X86 EM64T Linux

--------------------------------------------------------------
User input:
--------------------------------------------------------------
$rem
 jobtype = force
 method = b3lyp
 basis = sto-3g
$end

$molecule
 -1 1
 O  0.0 0.0 0.0
 H  0.0 0.0 0.964
$end
--------------------------------------------------------------
 ----------------------------------------------------------------
             Standard Nuclear Orientation (Angstroms)
    I     Atom           X                Y                Z
 ----------------------------------------------------------------
    1      O       0.0000000000     0.0000000000     0.1071111111
    2      H       0.0000000000     0.0000000000    -0.8568888889
 ----------------------------------------------------------------
 There are        5 alpha and        5 beta electrons
 Requested basis set is STO-3G
 ---------------------------------------
  Cycle       Energy         DIIS error
 ---------------------------------------
    1     -74.9000000000      1.39e-01
    2     -75.0000000000      1.00e-09  Convergence criterion met
 ---------------------------------------
 Total energy in the final basis set =      -75.0000000000
 Calculating analytic gradient of the SCF energy
 Gradient of SCF Energy
            1           2
    1   0.0000000   0.0000000
    2   0.0000000   0.0000000
    3   0.0200000  -0.0200000
 Max gradient component =       2.000E-02
"""

CP2K = """
 DBCSR| CPU Multiplication driver                                           BLAS (D)
 CP2K| version string:                                          CP2K version 8.1
 CELL| Volume [angstrom^3]:                                            1000.0000
 CELL| Vector a [angstrom]:      10.000     0.000     0.000   |a| =    10.000000
 CELL| Vector b [angstrom]:       0.000    10.000     0.000   |b| =    10.000000
 CELL| Vector c [angstrom]:       0.000     0.000    10.000   |c| =    10.000000
 DFT| Charge                                                                   0
 FUNCTIONAL| PBE:
 vdW POTENTIAL|          DFT-D3 (Version 3.1)
 QS| Density cutoff [a.u.]:                                                200.0

  1. Atomic kind: H                                     Number of atoms:       1
     Orbital Basis Set                                        DZVP-MOLOPT-SR-GTH
  2. Atomic kind: F                                     Number of atoms:       1
     Orbital Basis Set                                        DZVP-MOLOPT-SR-GTH

  Atom  Kind  Element       X           Y           Z          Z(eff)       Mass
       1     1 H    1    1.000000    2.000000    3.000000      1.00       1.0079
       2     2 F    9    1.920000    2.000000    3.000000      7.00      18.9984

  *** SCF run converged in    12 steps ***

 ENERGY| Total FORCE_EVAL ( QS ) energy (a.u.):              -24.500000000000000

 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      H           0.01000000     0.00000000    -0.00200000
      2      2      F          -0.01000000     0.00000000     0.00200000
 SUM OF ATOMIC FORCES           0.00000000     0.00000000     0.00000000     0.00000000

 STRESS TENSOR [GPa]

            X               Y               Z
  X       0.50000000      0.00000000      0.10000000
  Y       0.00000000      0.20000000      0.00000000
  Z       0.10000000      0.00000000      0.20000000

"""


def test_an_output_of_qchem_is_a_labelled_frame(tmp_path: Path) -> None:
    """Its gradient lies along the molecule in the frame that its coordinates are in."""
    (tmp_path / "hydroxide.out").write_text(QCHEM)
    atoms = read_frames(tmp_path / "hydroxide.out")[0]
    labels = labels_of([atoms])
    np.testing.assert_allclose(labels.energy, [-75.0 * Hartree], rtol=1e-6)
    np.testing.assert_allclose(labels.forces[:, 2], [-0.02 * Hartree / Bohr, 0.02 * Hartree / Bohr])
    assert atoms.get_distance(0, 1) == pytest.approx(0.964)
    assert atoms.info["method"] == "Q-Chem B3LYP STO-3G"
    assert (atoms.info["charge"], atoms.info["code_version"]) == (-1, "5.1.2")


def test_an_output_of_cp2k_is_a_labelled_frame(tmp_path: Path) -> None:
    """A pressure is a positive stress in CP2K and a negative one in ASE."""
    (tmp_path / "hf.out").write_text(CP2K)
    atoms = read_frames(tmp_path / "hf.out")[0]
    labels = labels_of([atoms])
    assert atoms.pbc.all()
    assert atoms.cell.lengths() == pytest.approx([10, 10, 10])
    assert str(atoms.symbols) == "HF"
    np.testing.assert_allclose(labels.energy, [-24.5 * Hartree], rtol=1e-6)
    force = [0.01 * Hartree / Bohr, 0, -0.002 * Hartree / Bohr]
    np.testing.assert_allclose(labels.forces, [force, [-f for f in force]], rtol=1e-6)
    stress = -np.array([[0.5, 0, 0.1], [0, 0.2, 0], [0.1, 0, 0.2]]) * GPa
    np.testing.assert_allclose(labels.stress[0], stress, rtol=1e-6)
    assert atoms.info["method"] == "CP2K PBE DFT-D3 400 Ry DZVP-MOLOPT-SR-GTH"
    assert (atoms.info["charge"], atoms.info["code_version"]) == (0, "8.1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CP2K.replace("run converged", "run NOT converged"), "a converged energy with forces"),
        (QCHEM.replace("Total energy in the final", "No energy in the"), "energies with their"),
        (
            QCHEM.replace("-0.0200000\n", "\n").replace("    2\n", "\n"),
            "expected labelled frames in",
        ),
    ],
)
def test_outputs_that_are_not_whole(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "broken.out").write_text(text)
    with pytest.raises(StructureError, match=says):
        read_frames(tmp_path / "broken.out")
