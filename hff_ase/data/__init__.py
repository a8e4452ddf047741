"""Labelled frames: reading, checking and splitting them, and turning them into tensors."""

from hff_ase.data.checks import check_frames
from hff_ase.data.database import write_database
from hff_ase.data.dataset import DatabaseDataset, Dataset, MemoryDataset, less_fixed
from hff_ase.data.frames import read_folder, read_frames
from hff_ase.data.labels import Frame, Labels, collate, labels_of, to_device
from hff_ase.data.splits import split_at_random, split_by_segment

__all__ = [
    "DatabaseDataset",
    "Dataset",
    "Frame",
    "Labels",
    "MemoryDataset",
    "check_frames",
    "collate",
    "labels_of",
    "less_fixed",
    "read_folder",
    "read_frames",
    "split_at_random",
    "split_by_segment",
    "to_device",
    "write_database",
]
