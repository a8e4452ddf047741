"""``python -m hff_ase`` is ``hff``."""

from __future__ import annotations

from hff_ase.cli import main

if __name__ == "__main__":
    main()
