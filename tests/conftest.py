"""What several test files share: a small model with random weights, structures, reference data."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

# The systems of tests are small: threads would only wait for each other, for minutes where other
# work shares the cores. Subprocesses of tests inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests side by side compile the same kernels: two at once must not write one cache.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    kernels = Path(tempfile.gettempdir()) / f"hff_ase-tests-{os.getuid()}" / worker
    os.environ.setdefault("NUMBA_CACHE_DIR", str(kernels))

import numpy as np
import pytest
import torch
from ase import Atoms

from hff_ase.backends import available
from hff_ase.calculators import HybridFF
from hff_ase.checkpoint import ModelInfo, save_model
from hff_ase.potential import HybridPotential
from hff_ase.reduce import has_torch_scatter
from hff_ase.terms.bamboo_dispersion import BambooDispersion
from hff_ase.terms.coulomb import Coulomb
from hff_ase.terms.predicted_charges import PredictedCharges
from hff_ase.terms.repulsion import ZBL
from hff_ase.terms.short_range import ShortRange

# Triton reads this when it is imported, and e3nn imports it: see triton_interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NO_DATA = "no ../shared/data beside the repository"
ELEMENTS = ("H", "Li", "C", "O", "F", "P")
C6 = {"H": 3.0, "Li": 270.0, "C": 19.0, "O": 7.6, "F": 5.0, "P": 104.0}  # eV A^6
R0 = {"H": 2.2, "Li": 3.5, "C": 2.9, "O": 2.5, "F": 2.3, "P": 3.5}  # A
CHANNELS = 16


def make_potential(seed: int = 0) -> HybridPotential:
    """Random weights: network, predicted charges, Ewald, dispersion, repulsion (float32)."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    options = {"channels": CHANNELS, "heads": 4, "layers": 2, "n_radial": 8, "cutoff": 4.0}
    terms = {
        "short_range": ShortRange(ELEMENTS, "get", options, hidden=(16,)),
        "charges": PredictedCharges(ELEMENTS, CHANNELS, hidden=(16,)),
        "coulomb": Coulomb("ewald", 5.0, 1e-6, (2.2, 18.7)),
        "dispersion": BambooDispersion(C6, R0, cutoff=6.0),
        "repulsion": ZBL(scale=0.9),
    }
    torch.set_rng_state(state)
    return HybridPotential(terms, ELEMENTS).requires_grad_(False).eval()


@pytest.fixture(scope="session")
def small_potential() -> HybridPotential:
    """A potential of every kind of term, small and with random weights; do not change it."""
    return make_potential()


@pytest.fixture(scope="session")
def small_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_potential` in an .hff file."""
    path = tmp_path_factory.mktemp("model") / "small.hff"
    potential = make_potential()
    info = ModelInfo("small", "random weights", "none", "a test", tuple(potential.terms))
    save_model(path, potential, info, [water(), salt_box()])
    return path


@pytest.fixture
def small_calculator(small_model_path: Path) -> HybridFF:
    """A new calculator of `small_model_path` (float64, so that sums can be compared tightly)."""
    return HybridFF.load(small_model_path, dtype="float64")


@pytest.fixture
def replace_library() -> Iterator[Callable[..., None]]:
    """A function that replaces a library, or lets it look as if it were not installed."""

    def forget() -> None:
        available.cache_clear()
        has_torch_scatter.cache_clear()

    with pytest.MonkeyPatch.context() as patch:

        def replace(name: str, module: ModuleType | None = None) -> None:
            patch.setitem(sys.modules, name, module)  # None: "cannot be imported", to Python
            forget()

        yield replace
    forget()


@pytest.fixture
def uninstall(replace_library: Callable[..., None]) -> Callable[[str], None]:
    """A function that lets a library look as if it were not installed, until the test ends."""
    return replace_library


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with reference data beside the repository; the test is skipped where absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(NO_DATA)
    return SHARED_DATA


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say in one line what a run without the reference data has not compared."""
    skipped = terminalreporter.stats.get("skipped", [])
    without = sum(NO_DATA in str(report.longrepr) for report in skipped)
    if without:
        terminalreporter.write_line(
            f"{without} tests, parity with the published checkpoint among them, were skipped: "
            f"they compare with reference data in {SHARED_DATA}, which is not there"
        )


def water() -> Atoms:
    """A water molecule, without a cell."""
    return Atoms("OH2", [[0.0, 0.0, 0.0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])


def salt_box(seed: int = 0) -> Atoms:
    """LiF, CO and water in a small triclinic box: 8 atoms, dense enough for every term."""
    rng = np.random.default_rng(seed)
    positions = [
        [0.5, 0.5, 0.5], [2.3, 0.6, 0.4], [3.5, 3.4, 0.6], [4.6, 3.5, 0.7],
        [0.8, 3.2, 3.4], [1.5, 3.7, 3.7], [0.1, 3.8, 3.5], [3.6, 1.2, 3.6],
    ]  # fmt: skip
    cell = [[5.6, 0.0, 0.0], [0.7, 5.9, 0.0], [-0.4, 0.6, 6.1]]
    return Atoms(
        "LiFCOOHHP", np.array(positions) + 0.05 * rng.normal(size=(8, 3)), cell=cell, pbc=True
    )
