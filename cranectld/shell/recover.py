"""The state a controller starts from: the newest snapshot, and the log after it folded in."""

from __future__ import annotations

from crane.errors import ErrorCode
from cranectld.core.apply import apply
from cranectld.core.state import State
from cranectld.store.api import Store, StoreError


def recover(store: Store) -> State:
    """Fold everything in the store. Raises StoreError: damaged, or written by a later version."""
    found = store.load_snapshot()
    state = found[1] if found is not None else State()
    for logged in store.read(state.seq + 1):
        try:
            apply(state, logged)
        except Exception as error:
            raise StoreError(
                ErrorCode.STORE_CORRUPT,
                f"event {logged.seq} ({type(logged.event).__name__}) does not fit what was "
                f"before it: {error!r}",
                "restore the state directory from a backup, and report this",
            ) from error
    if state.seq != store.last_seq:
        raise StoreError(
            ErrorCode.STORE_CORRUPT,
            f"the log ends with event {store.last_seq}, and only {state.seq} could be read",
            "restore the state directory from a backup",
        )
    return state
