"""The edge sum of E3Net, fused for the CPU, with its first two derivatives."""
