"""How things show themselves at a prompt and in a notebook: briefly, whatever they hold."""

import polars as pl
import pytest

from rigorous_recorder import ExperimentCollection


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """An experiment whose data and records are long."""
    collection = ExperimentCollection(tmp_path_factory.mktemp("shown") / "study")
    with collection.new_experiment(
        optimizer={"name": "adam", "betas": [0.9, 0.999]}, data="s3://a/b=50%"
    ) as experiment:
        experiment.sub_record_keeper(prompt="a" * 10_000).add_record(values=list(range(10_000)))
    return collection


def test_long_values_are_shortened(collection):
    (keeper,) = collection.keepers(prompt="a" * 10_000)
    for shown in (keeper, collection.records, collection.under(prompt="a" * 10_000), collection.experiments):
        assert len(repr(shown)) < 700
    assert "…" in repr(collection.records)
    with pytest.raises(KeyError) as caught:
        collection.keeper(prompt="b")
    assert len(str(caught.value)) < 700


def test_a_tree_is_read_without_the_encoding_of_its_marks(collection):
    first = collection.to_polars().rr.tree().splitlines()[0]
    assert first.startswith('experiment_number=1, optimizer={"name":"adam","betas":[0.9,0.999]}, data=s3://a/b=50%  ')
    odd = pl.DataFrame({"rr_lineage": ["a=x%0Ay%252C"]})
    assert odd.rr.tree() == "a=x%0Ay%2C  1 record", "what would end a line stays encoded, and nothing is decoded twice"


def test_an_accessor_says_what_it_offers(collection):
    names = "drop_inherited, inherited, latest, levels, own, tree, under"
    for frame, kind in ((collection.to_pandas(), "DataFrame"), (collection.scan(), "LazyFrame")):
        assert repr(frame.rr) == f"<.rr of a {kind}: {names}>"


def test_of_many_experiments_the_first_and_the_last_are_shown(tmp_path):
    collection = ExperimentCollection(tmp_path / "study")
    for seed in range(63):
        collection.new_experiment(seed=seed).close()
    lines = repr(collection.experiments).splitlines()
    assert len(lines) == 61
    assert lines[30] == "… 3 more"
    assert (lines[29].split()[1], lines[31].split()[1], lines[-1].split()[1]) == ("30", "34", "63")
    assert len(repr(collection.experiments[:60]).splitlines()) == 60
