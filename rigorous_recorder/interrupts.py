"""What has to be done although somebody presses Ctrl-C: it is done, and then the interrupt goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE: Final = 10
"""So many interrupts are put off. Who presses Ctrl-C more often than that means it: a disk may hang."""


def finish_first(operation: Callable[..., None], /, *arguments: object) -> None:
    """Do something that can be done again from its beginning, and let a KeyboardInterrupt out only when it is done.

    Args:
        operation: Is called again after each interrupt.
        arguments: What it is called with.

    Raises:
        KeyboardInterrupt: The first one that came.
    """
    first: KeyboardInterrupt | None = None
    for _ in range(PATIENCE):
        try:
            operation(*arguments)
            break
        except KeyboardInterrupt as interrupt:
            first = first or interrupt
    if first is not None:
        raise first
