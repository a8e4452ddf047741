"""Write d3_reference.npz from the tables that the tad-dftd3 and tad-mctc packages carry.

Run by a maintainer, never by the package: ``pip install --no-deps --target DIR tad-dftd3
tad-mctc`` and then ``PYTHONPATH=DIR python make_d3_reference.py OUTPUT``. Only the data modules of
the two packages are loaded, one by one, since their other parts pin their dependencies tightly.
"""

from __future__ import annotations

import sys
from importlib import import_module, util
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

N_ELEMENTS = 94  # as far as D3 itself goes; for Cm and Md the public tables disagree
BOHR = 0.52917721067  # Angstrom, CODATA 2014, as in ase.units
DECIMALS = 1e4  # the published C6 (atomic units) and radii (Angstrom) have four


def load_module(package: str, relative: str) -> ModuleType:
    """A single module of a package, without running the package's own __init__."""
    root = util.find_spec(package)
    if root is None or root.origin is None:
        raise SystemExit(f"expected {package} to be installed")
    path = Path(root.origin).parent / relative
    spec = util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"expected a module at {path}")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_integers(values: np.ndarray, what: str) -> np.ndarray:
    """Values times 10^4 as int32, refusing any that have further decimals."""
    scaled = np.rint(values * DECIMALS)
    worst = np.abs(values * DECIMALS - scaled).max()
    if worst > 1e-2:
        raise SystemExit(f"expected {what} with four decimals, off by {worst:.1e} of the last")
    return scaled.astype(np.int32)


def main(output: str) -> None:
    """Pack the tables; `hff_ase.terms.dispersion.reference` unpacks them."""
    reference = load_module("tad_dftd3", "reference.py").Reference(dtype=torch.float64)
    cn, c6 = reference.cn.numpy(), reference.c6.numpy()
    exists = cn[: N_ELEMENTS + 1] >= 0.0
    element, column = np.nonzero(exists)
    if not np.array_equal(column, np.concatenate([np.arange(n) for n in exists.sum(1)])):
        raise SystemExit("expected the references of each element to be stored without gaps")
    full = c6[element[:, None], element[None], column[:, None], column[None]]
    if not np.allclose(full, full.T, rtol=1e-12):
        raise SystemExit("expected a symmetric table of C6")
    radii_module = import_module("tad_mctc.data.radii")
    known = slice(1, N_ELEMENTS + 1)
    radii = radii_module.VDW_PAIRWISE(dtype=torch.float64).numpy()[known, known] * BOHR
    # The table holds 4/3 of the published radii, which have two decimals.
    covalent = 0.75 * BOHR * radii_module.COV_D3(dtype=torch.float64).numpy()[known]
    r4r2 = load_module("tad_dftd3", "data/r4r2.py").R4R2(dtype=torch.float64).numpy()
    lower = np.tril_indices(len(full))
    np.savez_compressed(
        output,
        reference_element=element.astype(np.int16),
        reference_cn=cn[element, column],
        c6_lower=as_integers(full[lower], "C6"),
        vdw_lower=as_integers(radii[np.tril_indices(N_ELEMENTS)], "radii"),
        covalent_radius=np.round(covalent, 2),
        r4r2=r4r2[known],
    )


if __name__ == "__main__":
    main(sys.argv[1])
