"""Neighbours in rows: sorted into them on a CPU, searched directly into them on a GPU."""
