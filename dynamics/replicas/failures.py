"""Replicas that blow up: found one by one, recorded, and dropped."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from hff_ase.dynamics.guards.checks import CONTACT_INTERVAL, check_contacts, look_closer
from hff_ase.dynamics.replicas.replica_engine import HARMLESS, ReplicaEngine
from hff_ase.dynamics.replicas.reporter import replica_folder
from hff_ase.dynamics.reporters.run_folder import FAILED, SUMMARY, RunFolder
from hff_ase.dynamics.reporters.statistics import Moment, frame
from hff_ase.errors import HFFError
from hff_ase.settings import to_yaml


def blowing_up(engine: ReplicaEngine, row: Tensor, step: int) -> dict[int, str]:
    """The replicas that are blowing up after a step, each with the reason.

    Args:
        engine: after the step.
        row: what is known of it, [n_replicas, n_columns].
        step: its number; atoms on top of each other are searched for now and then.
    """
    harmless = (row[:, HARMLESS] > 0).tolist()
    contacts = step % CONTACT_INTERVAL == 0
    bad: dict[int, str] = {}
    if all(harmless) and not contacts:
        return bad
    for place, replica in enumerate(engine.replicas):
        view = engine.look_at(place)
        try:
            if not harmless[place]:
                look_closer(engine.sample(row, place), view.atoms, view.results, replica.config)
            elif contacts:
                check_contacts(view.atoms, replica.config.min_distance)
        except HFFError as error:
            bad[place] = str(error)
    return bad


def write_down(
    folder: RunFolder, engine: ReplicaEngine, bad: Mapping[int, str], moment: Moment
) -> dict[int, str]:
    """Save the last frame and a summary of every replica that has blown up.

    Args:
        folder: of the run.
        engine: of all replicas.
        bad: reasons by place.
        moment: of the last step that was taken.

    Returns:
        What to say of each, by place.

    Raises:
        WriteError: it cannot be written.
    """
    messages = {}
    for place, reason in sorted(bad.items()):
        number = engine.replicas[place].index
        own = replica_folder(folder, number)
        own.write(FAILED, frame(engine.look_at(place).atoms, moment, {}))
        told = {"replica": number, "status": "failed", "step": moment.step, "reason": reason}
        own.write(SUMMARY, to_yaml(told))
        messages[place] = (
            f"replica {number} stopped after step {moment.step}: {reason}; frame saved in "
            f"{own[FAILED]}"
        )
    return messages
