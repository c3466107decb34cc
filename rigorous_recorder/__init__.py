"""Record hierarchically, lose nothing, analyse flat.

The public names; everything else is internal.
"""

from __future__ import annotations

from .accessors.interop import under
from .accessors.joining import concat
from .accessors.on_import import install as _install
from .collection import ExperimentCollection
from .collection_view import CollectionView
from .errors import DamageWarning, RecorderError, RecorderWarning
from .experiment import Experiment
from .keeper import RecordKeeper
from .pending import PendingRecord
from .record import Record, Records

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

_install()
