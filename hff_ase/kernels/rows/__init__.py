"""Neighbours in rows: pairs put into them on a CPU, searched straight into them on a GPU."""
