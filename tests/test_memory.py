"""While many objects are made the garbage collector waits, and afterwards it does what it did: also in a forked child."""

import gc
import os
import threading
from contextlib import suppress

import pytest

from rigorous_recorder.store.memory import settled, unhurried


@pytest.fixture(autouse=True)
def collector():
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("pause", [unhurried, settled])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_waits_and_then_is_as_it_was(pause, enabled):
    (gc.enable if enabled else gc.disable)()
    with suppress(RuntimeError), pause():
        with pause():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled() == enabled


def test_what_is_made_within_is_old_at_once_unless_somebody_has_frozen_objects():
    gc.collect()
    with settled():
        kept = [[] for _ in range(1_000)]
    young = {id(one) for generation in (0, 1) for one in gc.get_objects(generation)}
    assert not young & {*map(id, kept)}
    gc.freeze()
    frozen = gc.get_freeze_count()
    with settled():
        more = [[] for _ in range(1_000)]
    tracked = {id(one) for one in gc.get_objects()}  # what is frozen is not among them
    assert not tracked & {*map(id, kept)}, "theirs stay frozen"
    assert gc.get_freeze_count() <= frozen, "and nothing else becomes so; what another thread lets go of is less"
    assert {*map(id, more)} <= {id(one) for generation in (0, 1) for one in gc.get_objects(generation)}


@pytest.mark.parametrize("enabled", [True, False])
def test_a_child_that_is_forked_meanwhile_has_it_as_it_was(enabled):
    """The thread that would put it on again is not there."""
    (gc.enable if enabled else gc.disable)()
    inside, go = threading.Event(), threading.Event()

    def making():
        with unhurried():
            inside.set()
            go.wait(30)

    thread = threading.Thread(target=making)
    thread.start()
    assert inside.wait(30)
    child = os.fork()
    if child == 0:
        os._exit(gc.isenabled())
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == enabled
    assert gc.isenabled() == enabled
