"""An error in one process ends all of them, with one message."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any, NoReturn

SPREAD = 2.0  # seconds over which processes that fail together speak
FILE = "HFF_LAMMPS_ERROR"  # names the file that takes the message


def stop(error: BaseException, world: Any) -> NoReturn:
    """State what happened and end every process.

    LAMMPS ignores what a callback raises and would continue with the forces of the step before, and
    a process that leaves alone lets the others wait for ever. What several processes find at once
    one of them says: into the file that `hff lammps` waits for, or, where someone else has started
    them, the first one to stderr, who ends the others before they speak.

    Args:
        world: an mpi4py communicator.
    """
    code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
    sys.stdout.flush()
    if FILE in os.environ:
        with contextlib.suppress(FileExistsError), open(os.environ[FILE], "x") as file:
            file.write(one_line(error))
    else:
        time.sleep(SPREAD * world.rank / world.size)
        print("hff: " + one_line(error), file=sys.stderr, flush=True)
    world.Abort(code)
    raise SystemExit(code)  # Abort does not come back


def one_line(error: BaseException) -> str:
    """The message of an error; of one that nobody expected, with its place."""
    from hff_ase.errors import HFFError

    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, HFFError):
        return text
    if text.startswith("ERROR"):  # of LAMMPS
        return "LAMMPS: " + text
    trace, place = error.__traceback__, ""
    while trace is not None:
        place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {text}{place}"
