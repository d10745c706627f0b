"""Repairing the profiles of a lane: dropped, built anew from what cannot be wrong, and held against what was there.

Profiles are a pure function of a base and the log, or, where the base is lost, of the rows: nothing of them is worth
mourning. A running owner is asked by files beside its snapshots (`lanes.wish_file`): to save its memory, which is then
compared with the replay at the very same (seq, token), and to drop it. Without an owner this process does both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.db import connection

from scoring import epochs, lanes
from scoring.lanes import LaneLost, LaneTaken, Standing, own_lane
from scoring.profiles import Profiles
from scoring.snapshots import BadSnapshot

PATIENCE = 30.0  # seconds that a running owner has to fulfil a wish
LOOK_SECONDS = 0.1

Say = Callable[[str], None]


class CannotRepair(Exception):
    """The repair did not come about; the sentence says why."""


def rebuild_profiles(lane_id: int, say: Say, *, patience: float = PATIENCE) -> bool:
    """Drop a lane's snapshots and rebuild its memory; True if what was there equalled it. Raises CannotRepair.

    From base and log if the base is on disk; else from the rows, as a new epoch.
    """
    owned = _wish(lane_id, lanes.SAVE, patience)
    say("the owner saved its memory" if owned else "the lane has no owner")
    with connection.cursor() as cursor:
        standing = _standing(cursor, lane_id)
        kept = lanes.newest_snapshot(cursor, lane_id, standing)
        try:
            memory = epochs.base(cursor, lane_id, standing.epoch)
        except (epochs.NoBase, BadSnapshot) as error:
            say(f"the base of epoch {standing.epoch} cannot be used: {error}")
            _from_rows(lane_id, say, owned=owned, patience=patience)
            return False
        try:
            same = _compared(cursor, lane_id, memory, kept, say)
            epochs.log_replay(cursor, memory, lane_id, upto=standing.seq)
        except epochs.LogDiffers as error:
            raise CannotRepair(f"The log contradicts itself: {error}. Run verify.") from error
    _replace(lane_id, memory, standing, say, owned=owned, patience=patience)
    return same


def _standing(cursor: Any, lane_id: int) -> Standing:
    cursor.execute("SELECT epoch, seq, uuid_send(token) FROM lane_cursor WHERE lane = %s", [lane_id])
    row = cursor.fetchone()
    if row is None:
        raise CannotRepair(f"Lane {lane_id} never judged anything.")
    return Standing(row[0], row[1], bytes(row[2]))


def _wish(lane_id: int, wish: str, patience: float) -> bool:
    """Ask the running owner, and wait until it is done; False if there is none. Raises CannotRepair."""
    if not _is_owned(lane_id):
        return False
    file = lanes.wish_file(lane_id, wish)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    until = time.monotonic() + patience
    while file.exists():
        gone = not _is_owned(lane_id)
        if gone or time.monotonic() > until:
            try:
                file.unlink()
            except FileNotFoundError:  # done this very moment; a rebuild ends the owner's session with it
                return True
            if gone:  # it ended meanwhile
                return False
            raise CannotRepair(f"The owner of lane {lane_id} does not react. Does it share DATA_DIR with this process?")
        time.sleep(LOOK_SECONDS)
    return True


def _is_owned(lane_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 1 AND objid = %s AND objsubid = 2"
            " AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            [lane_id],
        )
        return cursor.fetchone() is not None


def _compared(cursor: Any, lane_id: int, memory: Profiles, kept: Profiles | None, say: Say) -> bool:
    """Whether the memory that was kept is what base and log give at its (seq, token)."""
    if kept is None or kept.seq < memory.seq:
        say("there is no snapshot to compare with")
        return True
    epochs.log_replay(cursor, memory, lane_id, upto=kept.seq)
    same = memory.digest() == kept.digest()
    at = f"at seq {kept.seq}, token {bytes(kept.token).hex()[:8]}"
    say(f"{at} the memory is what base and log give" if same else f"{at} the memory DIFFERS from base and log")
    return same


def _replace(lane_id: int, memory: Profiles, standing: Standing, say: Say, *, owned: bool, patience: float) -> None:
    """Let the rebuilt memory count: a running owner rebuilds its own; else it is the next one's snapshot."""
    if owned and _wish(lane_id, lanes.REBUILD, patience):
        say("the snapshots are dropped; the owner rebuilds its memory from base and log")
        return
    count = lanes.drop_snapshots(lane_id)
    if standing.seq:
        lanes.save_snapshot(lane_id, memory)
    say(f"{count} snapshots are dropped; the memory is rebuilt to seq {standing.seq}")


def _from_rows(lane_id: int, say: Say, *, owned: bool, patience: float) -> None:
    """A new epoch from the log's payments and the imports of the lost one; the owner, or we, switch to it."""
    with connection.cursor() as cursor:
        number = _standing(cursor, lane_id).epoch
        imports = epochs.imports_of(cursor, lane_id, number)
    epoch = epochs.build(lane_id, imports=imports, reason="rebuilt from rows: the base was lost")
    say(f"epoch {epoch.number} is built from {epoch.payments} payments and {epoch.labels} labels")
    until = time.monotonic() + patience
    while not (_switched(lane_id, number) or (not owned and _switch(lane_id))):
        if time.monotonic() > until:
            raise CannotRepair(f"Nobody switched lane {lane_id} to epoch {epoch.number}; it is ready.")
        time.sleep(LOOK_SECONDS)
    if not owned:
        lanes.drop_snapshots(lane_id)
    say(f"the lane runs epoch {epoch.number}")


def _switched(lane_id: int, number: int) -> bool:
    with connection.cursor() as cursor:
        return _standing(cursor, lane_id).epoch > number


def _switch(lane_id: int) -> bool:
    """Own the lane for the switch alone. Its memory is lost, so an empty one stands in, which judges nothing."""
    with connection.cursor() as cursor:
        standing = _standing(cursor, lane_id)
    stand_in = Profiles(lane_id)
    stand_in.epoch, stand_in.seq, stand_in.token = standing
    try:
        with own_lane(lane_id, memory=stand_in) as lane:
            return epochs.switch_if_ready(lane)
    except (LaneTaken, LaneLost, epochs.NoBase):  # somebody else tries to own it just now
        return False
