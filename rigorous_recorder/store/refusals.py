"""What is said when the system refuses to store, the disk to confirm what was stored, and of what was deleted."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ..errors import DeletedError, StoreError, hint_for
from . import layout

if TYPE_CHECKING:
    from .listing import Unlisted


def not_stored(error: OSError, folder: str | None) -> StoreError:
    """There was no room, or no permission: the entry that was being added is not stored, all before it is."""
    reason = error.strerror or str(error)
    return StoreError(
        error.errno,
        f"the system refused to store: {reason}. Everything added before is safe; this was not stored. "
        f"Hint: {hint_for(error.errno)}",
        folder or "memory",
    )


def not_confirmed(error: OSError, folder: str | None) -> StoreError:
    """A sync failed: what was added is in the page cache, and nobody knows what of it is on disk."""
    return StoreError(
        error.errno,
        f"the disk failed to confirm what was recorded: {error.strerror or error}. "
        + (
            "Hint: was the folder moved or removed?"
            if error.errno == errno.ENOENT
            else "It is safe from a crash of this program, not from one of the machine. "
            "Hint: check the disk, and copy the collection elsewhere"
        ),
        folder,
    )


def not_known(unlisted: Unlisted, what: str) -> StoreError:
    """What needs to know all that there is cannot be done, since a folder cannot be listed."""
    return StoreError(
        unlisted.errno,
        f"{what}: the folder cannot be listed ({unlisted.why}), and what is in it matters for this. "
        f"Hint: {hint_for(unlisted.errno)}",
        unlisted.folder,
    )


def deleted(folder: str) -> DeletedError:
    """An attempt was deleted, and with it what was recorded into its folder, or is to be."""
    path, claim, attempt = folder.rsplit("/", 2)
    name = layout.parse_claim(claim)
    return DeletedError(
        errno.ENOENT,
        f"{'The attempt' if name is None else f'The attempt of experiment {name.number}'} was deleted. "
        f"Hint: until the trash is emptied, what there is of it is in {path}/{layout.TRASH}/{claim}-{attempt}",
        folder,
    )
