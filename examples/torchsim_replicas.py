"""Replicas of one box at several temperatures in one batch, driven by TorchSim."""

from __future__ import annotations

from importlib.util import find_spec

from hff_ase.dynamics.build import build_box

STEPS = 5
TEMPERATURES = [280.0, 300.0, 320.0, 340.0]  # K, one for each replica


def main() -> None:
    """Langevin dynamics of four replicas, step by step side by side."""
    import torch
    import torch_sim as ts

    from hff_ase.dynamics.torchsim import HybridTorchSimModel

    model = HybridTorchSimModel.load("electrolyte", device="cpu")
    box = build_box("1.0 M LiPF6 in EC:DMC 1:1 v/v", 200)
    # functions up to release 0.3, names since
    integrators = ts.Integrator if hasattr(ts, "Integrator") else ts.integrators
    state = ts.integrate(
        system=[box] * len(TEMPERATURES),
        model=model,
        integrator=integrators.nvt_langevin,
        n_steps=STEPS,
        temperature=[TEMPERATURES] * STEPS,
        timestep=0.0005,  # ps
    )
    charges = model(state)["partial_charges"]
    for k, temperature in enumerate(TEMPERATURES):
        lithium = (state.system_idx == k) & (state.atomic_numbers == 3)
        kinetic = ts.calc_kinetic_energy(
            masses=state.masses, momenta=state.momenta, system_idx=state.system_idx
        )[k]
        print(
            f"{temperature:.0f} K: E {float(state.energy[k]):.4f} eV   "
            f"Ekin {float(kinetic):.4f} eV   q(Li) {float(torch.mean(charges[lithium])):+.3f} e"
        )
    print(f"neighbours searched {model.n_searches} times in {STEPS} steps")


if find_spec("torch_sim") is None:
    print("expected torch-sim-atomistic: pip install 'hff-ase[torchsim]'")
else:
    main()
