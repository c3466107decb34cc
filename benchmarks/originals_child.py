"""Runs one of the original releases, found by PYTHONPATH, in a process of its own; imports nothing of this checkout."""

from __future__ import annotations

import collections
import collections.abc
import json
import os
import sys
from random import random, seed
from time import perf_counter
from typing import Any


def put_back_mapping() -> None:
    """0.0.2's super_hash uses `collections.Mapping`, which Python 3.10 took away."""
    for name in ("Mapping", "MutableMapping", "Sequence", "Set", "Iterable", "Callable", "Hashable"):
        setattr(collections, name, getattr(collections.abc, name))


def collection_002(folder: str, experiments: int, episodes: int, steps: int) -> dict[str, float]:
    from rigorous_recorder import ExperimentCollection

    loop = 0.0
    begin = perf_counter()
    collection: Any = ExperimentCollection(os.path.join(folder, "study"))
    for _experiment in range(experiments):
        with collection.new_experiment() as record_keeper:
            for episode in range(episodes):
                episode_keeper = record_keeper.sub_record_keeper(episode=episode)
                start = perf_counter()
                for _step in range(steps):
                    episode_keeper.add_record({"x": random(), "y": random()})
                loop += perf_counter() - start
    total = perf_counter() - begin
    assert len(collection.records) == experiments * episodes * steps
    return {"loop": loop, "total": total}


def collection_144(folder: str, experiments: int, episodes: int, steps: int) -> dict[str, float]:
    import rigorous_recorder

    loop = 0.0
    begin = perf_counter()
    collection: Any = rigorous_recorder.ExperimentCollection(os.path.join(folder, "study"), quiet=True)
    keeper_class: Any = rigorous_recorder.RecordKeeper
    for _experiment in range(experiments):
        with collection.new_experiment() as record_keeper:
            for episode in range(episodes):
                episode_keeper = keeper_class(episode=episode).set_parent(record_keeper)
                start = perf_counter()
                for _step in range(steps):
                    episode_keeper.push({"x": random(), "y": random()})
                loop += perf_counter() - start
    total = perf_counter() - begin
    assert len(collection.records) == experiments * episodes * steps
    return {"loop": loop, "total": total}


def yaml_144(folder: str, experiments: int, episodes: int, steps: int) -> dict[str, float]:
    """Its only way to keep records through a crash: one YAML file per keeper, flushed at each record."""
    import rigorous_recorder

    loop = 0.0
    begin = perf_counter()
    keeper_class: Any = rigorous_recorder.RecordKeeper
    for experiment in range(experiments):
        experiment_keeper = keeper_class(experiment_number=experiment + 1)
        for episode in range(episodes):
            episode_keeper = keeper_class(episode=episode).set_parent(experiment_keeper)
            episode_keeper.live_write_to(os.path.join(folder, f"{experiment}.{episode}.yaml"), as_yaml=True)
            start = perf_counter()
            for _step in range(steps):
                episode_keeper.push({"x": random(), "y": random()})
            loop += perf_counter() - start
    return {"loop": loop, "total": perf_counter() - begin}


CONTESTANTS = {"collection_002": collection_002, "collection_144": collection_144, "yaml_144": yaml_144}


def main(name: str, folder: str, sizes: str, installed: str, answer_file: str) -> None:
    put_back_mapping()
    import rigorous_recorder

    found = os.path.realpath(str(rigorous_recorder.__file__))
    if not found.startswith(os.path.realpath(installed) + os.sep):
        message = f"expected the release in {installed}, got {found}"
        raise ImportError(message)
    os.makedirs(folder, exist_ok=True)
    seed(1)
    measured = CONTESTANTS[name](folder, *map(int, sizes.split(",")))
    with open(answer_file, "w", encoding="utf-8") as file:
        json.dump(measured, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
