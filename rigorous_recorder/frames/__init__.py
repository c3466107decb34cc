"""Frames: from what was read of a collection or tree to one flat frame. Recording imports nothing of it."""

from ..store.memory import settled

with settled():
    import polars  # noqa: F401, ICN001
