"""The errors and warnings of the recorder: each states a fact, the offending value and a hint.

RecorderError
├── UnstorableTypeError (TypeError)        a value of a type that cannot be recorded
├── UnstorableValueError (ValueError)      a value that cannot be recorded, although its type can
├── InvalidCallError (ValueError)          a call whose arguments do not fit together
├── UnknownKeyError (KeyError)             a key that nothing has
├── UnknownIndexError (IndexError)         a position that does not exist
├── ClosedError (RuntimeError)             recording into something that was closed
├── TreeError (ValueError)                 a keeper attached twice, or in a circle
├── NotACollectionError (ValueError)       a path that is no collection of ours
├── FormatError (ValueError)               a newer, foreign or damaged file
├── StoreError (OSError)                   the disk refused
├── DeletedError (FileNotFoundError)       an attempt that was deleted meanwhile
├── MissingLibraryError (ImportError)      an optional library that is not installed
├── HandleError (TypeError)                a keeper that cannot be handed to another process
├── FrameError (TypeError)                 what is no frame, or frames that do not fit together
├── TooLargeError (MemoryError)            a frame for which there is no memory
├── MissingExtraError (ImportError)        a library that is not installed; the message names the extra
└── RenamedError (AttributeError)          a name of an earlier release that went away

RecorderWarning (UserWarning)
└── DamageWarning                          something on disk could not be read or trusted
"""

from __future__ import annotations

import copyreg
import errno
import os
import sys
import warnings
from contextlib import contextmanager, suppress
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class RecorderError(Exception):
    """The parent of every error that is ours. The message states the fact and, after it, a hint.

    Attributes:
        record: The record that was refused, where one was.
    """

    record: dict[Any, Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """What another process gets: the error itself, with the repr of what cannot be handed over.

        Most records are refused for a value like a lock or a file. An executor that cannot send the error of a worker
        because of it shows "cannot pickle" in the place of our sentence.
        """
        reduced = super().__reduce__()
        assert isinstance(reduced, tuple)  # so it is for every exception
        cls, args, *state = reduced
        return cls, tuple(map(_portable, args)), *map(_portable_state, state)


class UnstorableTypeError(RecorderError, TypeError):
    """A value whose type cannot be recorded.

    Attributes:
        key: The key under which the value stood, or None.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class UnstorableValueError(RecorderError, ValueError):
    """A value that cannot be recorded although its type can: an int beyond 64 bits, a lone surrogate.

    Attributes:
        key: The key under which the value stood, or None.
    """

    def __init__(self, message: str, *, key: str | None = None) -> None:
        super().__init__(message)
        self.key = key


class InvalidCallError(RecorderError, ValueError):
    """A call whose arguments do not fit together. Nothing was stored."""


class UnknownKeyError(RecorderError, KeyError):
    """A key that nothing here has. Prints its sentence plainly, unlike the built-in KeyError."""

    def __str__(self) -> str:
        """The sentence itself, without the quotes that KeyError puts around it."""
        return str(self.args[0]) if self.args else ""


class UnknownIndexError(RecorderError, IndexError):
    """A position that does not exist."""


class ClosedError(RecorderError, RuntimeError):
    """Something was to be recorded into an experiment or keeper that is closed. Nothing was stored."""


class TreeError(RecorderError, ValueError):
    """A keeper that would have two parents, or be its own ancestor."""


class NotACollectionError(RecorderError, ValueError):
    """The path is a file, or a folder that holds something else."""


class FormatError(RecorderError, ValueError):
    """A file of a newer version, of another program, or damaged beyond reading."""


class StoreError(RecorderError, OSError):
    """The operating system refused to store. What was recorded before is safe."""


class DeletedError(RecorderError, FileNotFoundError):
    """What was to be read, or recorded into, is an attempt that somebody has deleted meanwhile."""


class MissingLibraryError(RecorderError, ImportError):
    """A call needs a library that is not installed; the message names the extra that brings it."""


class HandleError(RecorderError, TypeError):
    """A keeper that cannot be handed to another process."""


class FrameError(RecorderError, TypeError):
    """Something that is no frame, or frames of different kinds."""


class TooLargeError(RecorderError, MemoryError):
    """A frame that takes more memory than this process can have. Nothing of it was read."""


class MissingExtraError(RecorderError, ImportError):
    """A library that this takes is not installed; the message names the extra that brings it."""


class RenamedError(RecorderError, AttributeError):
    """A name of an earlier release that went away; the message names its successor."""


class RecorderWarning(UserWarning):
    """The parent of every warning that is ours."""


class DamageWarning(RecorderWarning):
    """Something on disk could not be read, or could be read but not trusted; the message says what and how much."""


# ---- errors in other processes ---------------------------------------------------------------------------------------

_ATOMS: Final = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})
_PROTOCOL: Final = 4


def _portable_state(state: Any) -> Any:
    """An error's attributes, of `.record` each item, as another process can get them."""
    if not isinstance(state, dict):
        return state
    portable = {name: _portable(value) for name, value in state.items() if name != "record"}
    record = state.get("record")
    if isinstance(record, dict):
        portable["record"] = {_portable(key): _portable(value) for key, value in record.items()}
    return portable


def _portable(value: Any) -> Any:
    """The value, or its repr where it cannot be handed to another process."""
    with suppress(Exception):  # whatever somebody else's class raises when it is asked, its repr goes in its place
        if _can_be_sent(value, {}):
            return value
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  (the error that is on its way must still arrive)
        return f"<{type(value).__qualname__}, whose repr raises {type(error).__name__}>"


def _can_be_sent(value: Any, seen: dict[int, Any]) -> bool:
    """Whether pickling would go through: by the protocol of `__reduce_ex__`, and without pickling, which we never do."""
    cls = value.__class__
    if cls in _ATOMS or id(value) in seen:
        return True
    seen[id(value)] = value  # also so that no other object gets this id meanwhile
    if cls in (list, tuple, set, frozenset, dict):
        parts = value if cls is not dict else (part for item in value.items() for part in item)
        return all(_can_be_sent(part, seen) for part in parts)
    if isinstance(value, (type, FunctionType)) or (
        isinstance(value, BuiltinFunctionType) and value.__self__.__class__ is type(sys)
    ):
        return _is_importable(value, value.__qualname__)
    by_class = copyreg.dispatch_table.get(cls)
    reduced = value.__reduce_ex__(_PROTOCOL) if by_class is None else by_class(value)
    if isinstance(reduced, str):
        return _is_importable(value, reduced)
    made = [list(part) if place in _ITERATORS and part is not None else part for place, part in enumerate(reduced)]
    return all(_can_be_sent(part, seen) for part in made)


_ITERATORS: Final = (3, 4)
"""Places of a reduced value at which the items of a list or dict come one by one."""


def _is_importable(value: Any, name: str) -> bool:
    """Whether another process finds this class or function under its name."""
    found: Any = sys.modules.get(value.__module__)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


_HERE: Final = os.path.dirname(__file__) + os.sep  # noqa: PTH120  (frames have texts, not paths)


def warn(message: str, category: type[RecorderWarning] = RecorderWarning) -> None:
    """Warn, pointing at the user's line: the nearest one outside of this package."""
    level, frame = 2, sys._getframe(1)  # noqa: SLF001  (what `skip_file_prefixes` does from Python 3.12 on)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def storing(what: str, path: str, *, reading: bool = False) -> Iterator[None]:
    """Around a public call that touches the disk: its refusal comes out as a StoreError that says what could not be done.

    Args:
        what: Could not be done.
        path: Of the folder.
        reading: Whether the call only reads: then it names the file that was refused, and its hint is for readers.
    """
    try:
        yield
    except RecorderError:
        raise
    except OSError as error:
        hint = _READERS.get(error.errno or 0) if reading else None
        refused = error.filename if reading and isinstance(error.filename, str) else path
        raise StoreError(
            error.errno, f"{what}: {error.strerror or error}. Hint: {hint or hint_for(error.errno)}", refused
        ) from error


_HINTS: Final = {
    errno.ENOSPC: "free space, and try again",
    errno.EDQUOT: "free space in your quota, and try again",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n), or close experiments",
    errno.ENFILE: "the machine has too many files open",
    errno.ENOENT: "was the folder moved or removed?",
    errno.EACCES: "may this user write there?",
    errno.EPERM: "may this user write there?",
    errno.EROFS: "the file system is read-only",
}


_READERS: Final = {errno.EACCES: "may this user read it?", errno.EPERM: "may this user read it?"}


def for_readers(text: str) -> str:
    """What is said of a path that cannot be a collection, to who wants to read one there, and not to make one."""
    return f"{text.partition(' Hint: ')[0]} Hint: is the path right?"


def hint_for(number: int | None) -> str:
    """What a user can do about an error of the operating system."""
    return _HINTS.get(number or 0, "check the disk and the folder")


def shortened(text: str, most: int = 200) -> str:
    """A text as a line of a message or a repr shows it: of a longer one the first `most` characters, and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def nearest(name: object, known: Iterable[object]) -> str:
    """A hint with the known names nearest to `name`, as a sentence that starts with a space, or nothing.

    Names that are no text, as columns of pandas may be, are not among them.
    """
    from difflib import get_close_matches  # for the unlucky only

    names = sorted({one for one in known if isinstance(one, str)})
    close = get_close_matches(str(name), names, n=3, cutoff=0.5) or (names if len(names) <= 8 else [])  # noqa: PLR2004
    return f" Hint: there is {', '.join(map(repr, close))}." if close else ""
