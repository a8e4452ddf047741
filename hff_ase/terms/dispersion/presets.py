"""Published parameters of D3 per density functional (two-body part, s6 = 1).

bj: s8, a1, a2 (Bohr); zero: s8, rs6 (and rs8 where it is not 1); cso: a1. Values as collected in
simple-dftd3's parameter file, which the tests compare with.
"""

from __future__ import annotations

from hff_ase.errors import ConfigError

PRESETS: dict[str, dict[str, dict[str, float]]] = {
    "bj": {
        "b3lyp": {"s8": 1.9889, "a1": 0.3981, "a2": 4.4211},
        "blyp": {"s8": 2.6996, "a1": 0.4298, "a2": 4.2359},
        "b97d": {"s8": 2.2609, "a1": 0.5545, "a2": 3.2297},
        "bp": {"s8": 3.2822, "a1": 0.3946, "a2": 4.8516},
        "camb3lyp": {"s8": 2.0674, "a1": 0.3708, "a2": 5.4743},
        "hse06": {"s8": 2.31, "a1": 0.383, "a2": 5.685},
        "pbe": {"s8": 0.7875, "a1": 0.4289, "a2": 4.4407},
        "pbe0": {"s8": 1.2177, "a1": 0.4145, "a2": 4.8593},
        "pbesol": {"s8": 2.9491, "a1": 0.4466, "a2": 6.1742},
        "r2scan": {"s8": 0.78981345, "a1": 0.49484001, "a2": 5.73083694},
        "revpbe": {"s8": 2.355, "a1": 0.5238, "a2": 3.5016},
        "rpbe": {"s8": 0.8318, "a1": 0.182, "a2": 4.0094},
        "scan": {"s8": 0.0, "a1": 0.538, "a2": 5.42},
        "tpss": {"s8": 1.9435, "a1": 0.4535, "a2": 4.4752},
        "tpssh": {"s8": 2.2382, "a1": 0.4529, "a2": 4.655},
        "wb97m": {"s8": 0.3908, "a1": 0.566, "a2": 3.128},
        "wb97x": {"s8": 0.2641, "a1": 0.0, "a2": 5.4959},
    },
    "zero": {
        "b3lyp": {"s8": 1.703, "rs6": 1.261},
        "blyp": {"s8": 1.682, "rs6": 1.094},
        "b97d": {"s8": 0.909, "rs6": 0.892},
        "m062x": {"s8": 0.0, "rs6": 1.619},
        "pbe": {"s8": 0.722, "rs6": 1.217},
        "pbe0": {"s8": 0.928, "rs6": 1.287},
        "revpbe": {"s8": 1.01, "rs6": 0.923},
        "rpbe": {"s8": 0.514, "rs6": 0.872},
        "scan": {"s8": 0.0, "rs6": 1.324},
        "tpss": {"s8": 1.105, "rs6": 1.166},
        "wb97x": {"s8": 1.0, "rs6": 1.281, "rs8": 1.094},
    },
    "cso": {
        "b3lyp": {"a1": 0.86},
        "blyp": {"a1": 1.28},
        "bp": {"a1": 1.01},
        "pbe": {"a1": 0.24},
        "pbe0": {"a1": 0.2},
        "tpss": {"a1": 0.72},
    },
}


def preset(method: str, damping: str) -> dict[str, float]:
    """Parameters of a density functional (case and hyphens do not matter).

    Raises:
        ConfigError: no parameters are known for it with this damping.
    """
    table = PRESETS.get(damping, {})
    name = method.lower().replace("-", "")
    if name not in table:
        raise ConfigError(
            f"expected a functional with {damping!r} D3 parameters ({' '.join(table)}), "
            f"got {method!r}; give its parameters explicitly"
        )
    return dict(table[name])
