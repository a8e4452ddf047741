"""hff_ase: a hybrid force field for liquid electrolytes, as a batched ASE calculator.

from hff_ase import HybridFF
atoms.calc = HybridFF.load("electrolyte")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hff_ase._version import __version__

if TYPE_CHECKING:
    from hff_ase.calculators.hybrid import HybridFF
    from hff_ase.models import available_models

__all__ = ["HybridFF", "__version__", "available_models"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: only when something that needs it is asked for.
    if name == "HybridFF":
        from hff_ase.calculators.hybrid import HybridFF

        return HybridFF
    if name == "available_models":
        from hff_ase.models import available_models

        return available_models
    raise AttributeError(f"module 'hff_ase' has no attribute {name!r}")
