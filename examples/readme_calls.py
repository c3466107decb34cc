"""The calls of the original README in their order, on a task of our own: two controllers hold a room at 21 degrees.

Usage: python examples/readme_calls.py FOLDER
"""

import sys
from collections.abc import Callable
from random import Random
from statistics import mean

from rigorous_recorder import ExperimentCollection, RecordKeeper

WANTED = 21.0  # degrees Celsius
DAY_MINUTES = 1000
NIGHT_MINUTES = 50


def thermostat(temperature: float) -> float:
    """Heat fully below the wanted temperature, else not at all."""
    return 1.0 if temperature < WANTED else 0.0


def proportional(temperature: float) -> float:
    """Heat the more, the colder it is."""
    return min(1.0, max(0.0, 0.5 + (WANTED - temperature)))


class Room:
    """A room that loses heat to the outside and is heated by a controller; one minute per step."""

    def __init__(self, controller: Callable[[float], float], outside: float, seed: int) -> None:
        """Start at 15 degrees."""
        self.controller = controller
        self.outside = outside
        self.random = Random(seed)
        self.temperature = 15.0

    def minute(self) -> float:
        """Let a minute pass; returns the heating power that was used, from 0 to 1."""
        power = self.controller(self.temperature)
        draught = self.random.uniform(0.0, 0.02)
        self.temperature += 0.6 * power - (0.02 + draught) * (self.temperature - self.outside)
        return power


def observe(room: Room, keeper: RecordKeeper, minute: int) -> None:
    """One part of a program notes what it sees, and another one commits it."""
    keeper.pending_record["minute"] = minute
    keeper.pending_record["off_by"] = abs(room.temperature - WANTED)


def record_rooms(folder: str) -> ExperimentCollection:
    """Record one experiment: both controllers, by day and by night."""
    study = ExperimentCollection(folder)
    with study.new_experiment() as experiment:
        simple = experiment.sub_record_keeper(controller="thermostat")
        smooth = experiment.sub_record_keeper(controller="proportional")

        simple_day = simple.sub_record_keeper(day=True)
        smooth_day = smooth.sub_record_keeper(day=True)
        simple_room = Room(thermostat, outside=10.0, seed=1)
        smooth_room = Room(proportional, outside=10.0, seed=1)
        for minute in range(DAY_MINUTES):
            power = simple_room.minute()
            simple_day.add_record({"minute": minute, "off_by": abs(simple_room.temperature - WANTED), "power": power})

            power = smooth_room.minute()
            observe(smooth_room, smooth_day, minute)
            smooth_day.pending_record["power"] = power
            smooth_day.commit_record()

        simple_night = simple.sub_record_keeper(night=True)
        smooth_night = smooth.sub_record_keeper(night=True)
        simple_room.outside = smooth_room.outside = 2.0
        for minute in range(NIGHT_MINUTES):
            simple_room.minute()
            simple_night.add_record({"minute": minute, "temperature": simple_room.temperature})

            smooth_room.minute()
            smooth_night.pending_record["minute"] = minute
            smooth_night.pending_record["temperature"] = smooth_room.temperature
            smooth_night.commit_record()
    return study


def main(folder: str) -> None:
    """Record an experiment in the folder, then read all that is in it."""
    study = record_rooms(folder)

    records = study.records
    expected = 2 * (DAY_MINUTES + NIGHT_MINUTES) * len(study.experiment_numbers)
    if len(records) != expected:
        sys.exit(f"expected {expected} records in {folder}, found {len(records)}")
    print(f"the first of {len(records)} records: {records[0]}")

    # A record reads None for what it does not have, so day records can be picked without asking first.
    settled = tuple(each for each in records if each["day"] and each["minute"] >= 500)
    print(f"off by, once settled: {mean(each['off_by'] for each in settled):.3f} degrees")
    for name in ("thermostat", "proportional"):
        off_by = mean(each["off_by"] for each in settled if each["controller"] == name)
        print(f"  {name}: {off_by:.3f} degrees")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
