"""Pairs of induced dipoles, fused."""
