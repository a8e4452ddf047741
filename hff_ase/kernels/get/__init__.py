"""The graph equivariant transformer, fused: see `hff_ase.kernels.get.network`."""
