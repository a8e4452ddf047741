"""The force field with its dispersion exchanged for DFT-D3, by ASE's own mixing calculators."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

from ase.calculators.mixing import MixedCalculator, SumCalculator

from hff_ase import HybridFF
from hff_ase.dynamics.build import build_box
from hff_ase.errors import HFFWarning


def without_dispersion() -> HybridFF:
    """The shipped model without its own dispersion."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HFFWarning)  # it says that what is left is incomplete
        return HybridFF.load("electrolyte", without=["dispersion"])


def with_d3(method: str = "B3LYP") -> SumCalculator:
    """The shipped model with D3(BJ), damped for ``method``, instead of its dispersion."""
    from dftd3.ase import DFTD3

    return SumCalculator([without_dispersion(), DFTD3(method=method, damping="d3bj")])


def halfway() -> MixedCalculator:
    """Half the shipped model, half the one with D3: a point on the path between the two."""
    return MixedCalculator(HybridFF.load("electrolyte"), with_d3(), 0.5, 0.5)


if __name__ == "__main__":
    if find_spec("dftd3") is None:
        print("this example needs dftd3: pip install dftd3")
    else:
        box = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 150, seed=1)
        calculators = {
            "shipped": HybridFF.load("electrolyte"), "with D3(BJ)": with_d3(), "halfway": halfway(),
        }  # fmt: skip
        for name, calc in calculators.items():
            box.calc = calc
            print(f"{name:12s} {box.get_potential_energy():12.4f} eV")
