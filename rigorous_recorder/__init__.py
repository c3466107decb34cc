"""Record hierarchically, lose nothing, analyse flat.

The public names; everything else is internal.
"""

from __future__ import annotations

import typing as _typing
from importlib import import_module as _import_module

from .store.memory import settled as _settled

with _settled():  # a tenth of the time of importing
    from .accessors.on_import import install as _install
    from .collection import ExperimentCollection
    from .collection_view import CollectionView
    from .errors import DamageWarning, RecorderError, RecorderWarning
    from .experiment import Experiment
    from .keeper import RecordKeeper
    from .pending import PendingRecord
    from .record import Record, Records

if _typing.TYPE_CHECKING:
    from .accessors.interop import under
    from .accessors.joining import concat

Recorder = RecordKeeper
SubRecordKeeper = RecordKeeper
"""Names of the later releases."""

__version__ = "2.0.0"

__all__ = [
    "CollectionView",
    "DamageWarning",
    "Experiment",
    "ExperimentCollection",
    "PendingRecord",
    "Record",
    "RecordKeeper",
    "Recorder",
    "RecorderError",
    "RecorderWarning",
    "Records",
    "SubRecordKeeper",
    "concat",
    "under",
]

_FOR_FRAMES = {"concat": ".accessors.joining", "under": ".accessors.interop"}


if not _typing.TYPE_CHECKING:  # else a name that is not there would be taken for one that is

    def __getattr__(name: str) -> object:
        """What is for frames is imported when somebody asks for it: who only records, or only reads, does not need it."""
        if name not in _FOR_FRAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(_import_module(_FOR_FRAMES[name], __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_FOR_FRAMES})


_install()
