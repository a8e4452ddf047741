"""The few hot operations, fused: in numba for the CPU, in Triton for a GPU.

A kernel changes speed, never results: the torch code of networks and terms is the reference, and
each kernel is tested against it. Kernels are used where only first derivatives of the energy of
whole systems are wanted (`HybridPotential.forward` without ``create_graph``) and networks run in
float32. In training the CPU kernels of networks also give gradients of parameters
(`hff_ase.training.gradients`); second derivatives and float64 run the reference.

A kernel takes positions, cell and index arrays (`hff_ase.pairs.Rows`), never ready-made pair
vectors, and gives energies together with their derivatives: see `hff_ase.kernels.explicit`.
"""
