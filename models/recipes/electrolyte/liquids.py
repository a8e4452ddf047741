"""The liquids that `electrolyte` is trained for: all solvents and salts that its teacher knows."""

from __future__ import annotations

import numpy as np

from hff_ase.dynamics.build import parse_recipe
from hff_ase.dynamics.build.composition import compose
from hff_ase.errors import RecipeError

# name -> recipe of `hff_ase.dynamics.build`; names of the boxes that come labelled are kept.
LIQUIDS = {
    "EC": "EC",
    "PC": "PC",
    "DMC": "DMC",
    "EMC": "EMC",
    "DEC": "DEC",
    "VC": "VC",
    "FEC": "FEC",
    "EA": "EA",
    "EtOH": "ethanol",
    "ACT": "acetone",
    "Novec": "Novec7000",
    "EC_DMC": "EC:DMC 1:1 v/v",
    "EC_EMC": "EC:EMC 3:7 w/w",
    "PC_EMC": "PC:EMC 1:1 v/v",
    "FEC_DMC": "FEC:DMC 1:3 v/v",
    "FEC_Novec": "FEC:Novec7000 1:1 v/v",
    "EtOH_EA": "ethanol:EA 1:1 v/v",
    "ACT_DEC": "acetone:DEC 1:1 v/v",
    "LiPF6_EC_DMC": "1.0 M LiPF6 in EC:DMC 1:1 v/v",
    "LiPF6_EC_DMC_2M": "2.0 M LiPF6 in EC:DMC 1:1 v/v",
    "LiPF6_EC_EMC": "1.0 M LiPF6 in EC:EMC 3:7 w/w",
    "LiPF6_EC_DEC": "1.0 M LiPF6 in EC:DEC 1:1 v/v",
    "LiPF6_DMC": "1.0 M LiPF6 in DMC",
    "LiPF6_EMC": "1.5 M LiPF6 in EMC",
    "LiPF6_PC": "1.0 M LiPF6 in PC",
    "LiPF6_FEC_DMC": "1.2 M LiPF6 in FEC:DMC 1:3 v/v",
    "LiPF6_EA_VC": "1.0 M LiPF6 in EA:VC 4:1 v/v",
    "LiPF6_EC_EMC_VC_FEC": "1.0 M LiPF6 in EC:EMC:VC:FEC 20:50:15:15 w/w",
    "LiFSI_DMC": "1.5 mol/kg LiFSI in DMC",
    "LiFSI_DMC_hi": "4.0 mol/kg LiFSI in DMC",
    "LiFSI_EMC": "1.5 mol/kg LiFSI in EMC",
    "LiFSI_EC_EMC_hi": "3.0 mol/kg LiFSI in EC:EMC 3:7 w/w",
    "LiFSI_PC": "2.0 mol/kg LiFSI in PC",
    "LiFSI_FEC_Novec": "1.0 mol/kg LiFSI in FEC:Novec7000 1:1 v/v",
    "LiTFSI_DMC": "1.0 mol/kg LiTFSI in DMC",
    "LiTFSI_DMC_hi": "3.5 mol/kg LiTFSI in DMC",
    "LiTFSI_PC": "2.0 mol/kg LiTFSI in PC",
    "LiTFSI_EtOH": "1.0 mol/kg LiTFSI in ethanol",
    "LiTFSI_ACT": "1.0 mol/kg LiTFSI in acetone",
    "LiPF6_LiFSI_EC_EMC": "0.5 M LiPF6 + 0.5 M LiFSI in EC:EMC 3:7 w/w",
}

# Compositions that no round ever trains on: what the model does with a mixture that is new to it.
LEFT_OUT = ("EC_DEC", "LiPF6_EA_EC", "LiFSI_EC_DMC", "LiTFSI_EC_EMC")

SOLVENTS = {  # what frames call them, and what recipes do
    "EC": "EC", "PC": "PC", "DMC": "DMC", "EMC": "EMC", "DEC": "DEC", "VC": "VC", "FEC": "FEC",
    "EA": "EA", "EtOH": "ethanol", "ACT": "acetone", "Novec": "Novec7000",
}  # fmt: skip
SALTS = {"LiPF6": 2.5, "LiFSI": 4.0, "LiTFSI": 4.0}  # highest mol/kg
NEAT = 0.25  # share of mixtures without salt


def random_mixtures(number: int, seed: int, n_atoms: int) -> dict[str, str]:
    """Names and recipes of one to three solvents in random proportion, most with a salt.

    All of them can be made of so many atoms; none has the salt and the solvents of one of
    `LEFT_OUT`.
    """
    rng, found = np.random.default_rng(seed), {}
    while len(found) < number:
        names = sorted(rng.choice(list(SOLVENTS), rng.integers(1, 4), replace=False))
        parts = rng.dirichlet(np.ones(len(names))) * 80.0 + 20.0 / len(names)
        of_solvents = ":".join(SOLVENTS[name] for name in names)
        recipe = f"{of_solvents} {':'.join(f'{part:.0f}' for part in parts)} w/w"
        if len(names) == 1:
            recipe = of_solvents
        salt = str(rng.choice(list(SALTS)))
        salts = [] if rng.random() < NEAT else [salt]
        if salts:
            recipe = f"{rng.uniform(0.3, SALTS[salt]):.1f} mol/kg {salt} in {recipe}"
        if any({*salts, *names} == set(left_out.split("_")) for left_out in LEFT_OUT):
            continue
        try:
            compose(parse_recipe(recipe), n_atoms)
        except RecipeError:  # less than half a molecule of something
            continue
        found["_".join([*salts, *names, str(len(found))])] = recipe
    return found
