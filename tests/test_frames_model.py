"""Frames against plain Python: random trees with overriding keys, equal siblings, edits, odd names, many units."""

import tempfile
import warnings
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest
from frame_oracle import AUTOMATIC, LIBRARIES, OURS, cell, column_type, pandas_type, rows_of, same_cell, types
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import exact, plain
from test_model import all_text

from rigorous_recorder import ExperimentCollection, RecorderWarning, RecordKeeper
from rigorous_recorder.exact import frozen
from rigorous_recorder.lineage import lineage_text
from rigorous_recorder.store import pack

KEYS = st.sampled_from(["a", "b", "c", "x", "", "rr_level", "rr_lineage", "a b/=,é", "*", "^x$", "^["])
SIMPLE = st.sampled_from(
    [None, True, False, 1, 0, -1, 2**63, 2**53, 0.5, float("nan"), "t", "u", "1", (1, 2), [], [0.5]]
)
LEVELS = st.dictionaries(KEYS, SIMPLE | exact.filter(all_text), max_size=3)
OWN = st.dictionaries(
    KEYS | st.sampled_from(["y", "had_error", "rr_attempt"]), SIMPLE | plain.filter(all_text), max_size=3
)
BLOCK = st.lists(st.dictionaries(KEYS, SIMPLE | exact.filter(all_text), max_size=3), max_size=4)
PICK = st.integers(0, 99)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sub"), PICK, LEVELS),
        st.tuples(st.just("add"), PICK, OWN),
        st.tuples(st.just("add"), PICK, OWN),
        st.tuples(st.just("rows"), PICK, BLOCK),
        st.tuples(st.just("edit"), PICK, LEVELS),
        st.tuples(st.just("resume"), PICK, st.none()),
    ),
    max_size=12,
)
TREES = st.lists(st.tuples(LEVELS, STEPS), min_size=1, max_size=3)


class Level:
    """A level of the model."""

    def __init__(self, keeper, parent, data):
        self.keeper = keeper
        self.parent = parent
        self.data = {key: frozen(value) for key, value in data.items()}
        self.children = []
        if parent is not None:
            parent.children.append(self)

    def chain(self):
        """The levels from the root down to this one."""
        return [*(self.parent.chain() if self.parent else []), self]

    def merged(self):
        """What its records inherit from levels."""
        return {key: value for level in self.chain() for key, value in level.data.items()}

    def find_again(self, keeper):
        """Take the keepers of a resumed experiment."""
        self.keeper = keeper
        for child, found in zip(self.children, keeper.children, strict=True):
            child.find_again(found)


def grow(root, steps, resume):
    """Do the steps; all levels, and (level, own keys) of each record."""
    levels, added = [root], []
    for what, pick, given_ in steps:
        level = levels[pick % len(levels)]
        if what == "sub":
            levels.append(Level(level.keeper.sub_record_keeper(given_), level, given_))
        elif what == "add":
            level.keeper.add_record(given_)
            added.append((level, list(given_)))
        elif what == "rows":
            level.keeper.add_records(given_)
            added += [(level, list(row)) for row in given_]
        elif what == "edit":
            level.keeper.update(given_)
            level.data.update({key: frozen(value) for key, value in given_.items()})
        elif resume is not None:
            root.find_again(resume(root.keeper))
    return levels, added


def check(frame, library, expected, notes, levels):
    """Compare a frame with what it must hold.

    Args:
        frame: Of any library.
        library: Its name.
        expected: Of each record: the record, its level, its own keys.
        notes: The data of the collection's root level.
        levels: All levels, also those without records.
    """
    found = rows_of(frame)
    assert len(found) == len(expected)
    dtypes = types(frame)
    names = {key: name for name in dtypes for key in [name.rstrip("_")] if name not in OURS and name != key}
    inherited = {key for level in levels for key in {**notes, **level.merged()}}
    own = list(dict.fromkeys(key for _, _, keys in expected for key in keys))
    assert set(dtypes) - OURS == {names.get(key, key) for key in {*inherited, *own}}
    assert list(dtypes)[-len([key for key in own if key not in inherited]) or len(dtypes) :] == [
        names.get(key, key) for key in own if key not in inherited
    ]
    for key in {*inherited, *own}:
        name = names.get(key, key)
        values = [value for record, level, keys in expected for value in held(record, level, keys, key, notes)]
        above = [{**notes, **level.merged()} for level in levels]
        dtype = column_type(values)
        if dtype == pl.Null:
            dtype = column_type([data[key] for data in above if key in data])
        cells = [cell(effective(record, level, keys, key, notes), dtype) for record, level, keys in expected]
        if library == "pandas":
            category = key in inherited and dtype == pl.String
            assert str(dtypes[name]) == pandas_type(dtype, missing=None in cells, category=category)
        else:
            assert dtypes[name] == dtype
        for row, value in zip(found, cells, strict=True):
            assert same_cell(row[name], value, library, dtype), (key, dtype, row[name], value)


def effective(record, level, keys, key, notes):
    """The value of a user's key: that of the record, which has a value of the recorder's under some names."""
    return record[key] if key in keys or key not in OURS else {**notes, **level.merged()}.get(key)


def held(record, level, keys, key, notes):
    """What a record has for a key: its own value, and what its level has although the record overrides it."""
    values = {**notes, **level.merged()}
    return [*([record[key]] if key in keys else []), *([values[key]] if key in values else [])]


def check_ours(frame, expected, notes, numbers):
    """The columns that the recorder adds to a collection's frame."""
    for row, (record, level, keys), number in zip(rows_of(frame), expected, numbers, strict=True):
        chain = [each.data for each in level.chain()]
        datas = [*([notes] if notes else []), {"experiment_number": number, **chain[0]}, *chain[1:]]
        assert row["rr_lineage"] == lineage_text(datas)
        for key in AUTOMATIC:
            assert row[key] == record[key] or key in keys or (record[key] is None and row[key] != row[key])


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=max(10, settings.default.max_examples // 2))
@given(trees=TREES, notes=st.just({}) | LEVELS, seals=st.integers(0, 7), closed=st.booleans())
def test_a_collections_frame_is_its_records(library, journal, trees, notes, seals, closed):
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "The key .* has the name of a column", RecorderWarning)
        collection = ExperimentCollection(folder + "/study", journal=journal, sync_interval=3600)
        if notes:
            collection.add_notes(notes)
            notes = {key: frozen(value) for key, value in notes.items()}
        stack.callback(close_all, collection)
        expected, numbers, every = [], [], []
        for number, (info, steps) in enumerate(trees, 1):

            def resume(keeper, number=number):
                keeper.close()
                return collection.resume_experiment(number)

            root = Level(collection.new_experiment(info), None, info)
            levels, added = grow(root, steps, resume)
            every += levels
            expected += added
            numbers += [number] * len(added)
            if closed or number < len(trees):
                root.keeper.close()
                for place, path in enumerate(sorted(Path(folder).glob(f"study/{number:06}.*/*/*.log"))):
                    if seals >> place & 1:
                        pack.seal(str(path))
        records = collection.records
        expected = [(record, level, keys) for record, (level, keys) in zip(records, expected, strict=True)]
        frame = getattr(collection, f"to_{library}")()
        check(frame, library, expected, notes, every)
        check_ours(frame, expected, notes, numbers)
        branch = levels[seals % len(levels)].keeper
        part = getattr(branch, f"to_{library}")()
        below = [one for one in expected if levels[seals % len(levels)] in one[1].chain()]
        check_ours(part, below, notes, [len(trees)] * len(below))
        assert len(part) == len(branch.records)


def close_all(collection):
    """Close what is open while its folder is there."""
    for experiment in collection.open_experiments:
        experiment.close()


def some_sealed(stack, trees, notes, seals, *, closed):
    """A collection of trees, in a folder that goes with the stack, some of whose logs are sealed."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", "The key .* has the name of a column", RecorderWarning)
    collection = ExperimentCollection(folder + "/study", sync_interval=3600)
    stack.callback(close_all, collection)
    collection.add_notes(notes)
    for number, (info, steps) in enumerate(trees, 1):
        root = Level(collection.new_experiment(info), None, info)
        grow(root, steps, None)
        if closed or number < len(trees):
            root.keeper.close()
            for place, path in enumerate(sorted(Path(folder).glob(f"study/{number:06}.*/*/*.log"))):
                if seals >> place & 1:
                    pack.seal(str(path))
    return collection


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=max(10, settings.default.max_examples // 2))
@given(tree=TREES, pick=PICK)
def test_a_memory_keepers_frame_is_its_records(library, tree, pick):
    info, steps = tree[0]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The key .* has the name of a column", RecorderWarning)
        root = Level(RecordKeeper(info), None, info)
        levels, added = grow(root, steps, None)
        expected = [(record, level, keys) for record, (level, keys) in zip(root.keeper.records, added, strict=True)]
        check(getattr(root.keeper, f"to_{library}")(), library, expected, {}, levels)
        level = levels[pick % len(levels)]
        part = getattr(level.keeper, f"to_{library}")()
        lineages = [lineage_text([each.data for each in one.chain()]) for _, one, _ in expected if level in one.chain()]
        assert [row["rr_lineage"] for row in rows_of(part)] == lineages
