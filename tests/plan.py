"""The test plan: what is shown how often in each run of the tests and in the long run, and the table of what was reached.

The tests take their figures from `ROWS`, and `docs/reliability.md` shows the same, so that the two cannot differ. As a
program it prints, as Markdown, what the runs recorded in a log reached: `python tests/plan.py build/reliability.jsonl`.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
"""Whether this is the long run (`make test-long`)."""

SMALL = os.environ.get("PLAN") == "small"
"""Whether this is a run with other libraries or without the compiled hot path, beside one with the figures of the plan."""

ALL = "all"
"""All places there are, in each run: the test counts them itself."""


class Row(NamedTuple):
    """One row of the plan.

    Attributes:
        name: What is done.
        unit: What is counted.
        passes: When it passes.
        tests: For each test, by "file::function", how much of it each run does, and the long one; or ALL.
    """

    name: str
    unit: str
    passes: str
    tests: dict[str, tuple[int, int] | str]

    def total(self, long):
        """How much of it a run does in all its tests, as text."""
        counts = [figure[long] for figure in self.tests.values() if figure != ALL]
        return f"{sum(counts):,} {self.unit}" if counts else f"{ALL} {self.unit}" if self.tests else "no test yet"


ROWS = {
    "kill": Row(
        "SIGKILL at a random moment of recording, sealing, compacting, resuming, beginning and closing",
        "kills",
        "acknowledged is a subset of recovered; at most one call more per thread",
        {
            "test_kill.py::test_acknowledged_records_survive_a_kill": (240, 8_800),
            "test_kill.py::test_acknowledged_records_survive_a_kill_while_units_are_sealed": (6, 200),
            "test_kill.py::test_a_kill_while_experiments_are_begun_and_closed": (36, 600),
            "test_kill.py::test_a_kill_of_who_seals_loses_nothing": (10, 200),
            "test_kill.py::test_a_kill_of_who_resumes_loses_nothing": (20, 400),
            "test_compact_storm.py::test_compactors_that_are_killed": (8, 500),
        },
    ),
    "seal": Row(
        "stopped before and after every system call of a seal, a compaction and a deletion, as by SIGKILL",
        "calls",
        "no loss, no duplicate",
        {
            "test_pack.py::test_killed_before_and_after_every_system_call": ALL,
            "test_compact.py::test_a_kill_at_every_system_call": ALL,
            "test_delete.py::test_a_kill_at_every_system_call_of_a_deletion": ALL,
        },
    ),
    "truncate": Row(
        "a journal truncated at every byte of 8 KiB",
        "sizes",
        "an exact prefix, and a report",
        {"test_damage.py::test_a_log_truncated_at_every_byte": ALL},
    ),
    "bits": Row(
        "every bit of a journal flipped: of 4 KiB of entries, in the long run of 64 KiB",
        "bits",
        "never a wrong record among those that a checksum vouches for",
        {
            "test_damage.py::test_every_flipped_bit": (8 * 4096, 8 * 65536),
            "test_damage.py::test_every_flipped_bit_of_a_log_without_checksums": ALL,
        },
    ),
    "compact": Row(
        "two compactors, a sealer, two writers and four readers at once, with no grace",
        "compactions",
        "every reader sees every record once",
        {"test_compact_storm.py::test_compactors_sealers_writers_and_readers_at_once": (2 * 100, 2 * 2_500)},
    ),
    "copies": Row(
        "copied, merged and copied again while it is written",
        "merges",
        "the exact union; edits equal in any order",
        {"test_copies.py::test_copies_made_while_it_is_written_merge_to_the_union": (20, 500)},
    ),
    "zeros": Row(
        "runs of 512 bytes and of 4 KiB zeroed; pages dropped that were written after the last sync",
        "damages",
        "as for flipped bits, and no other block is hidden",
        {
            "test_damage.py::test_every_zeroed_run": ALL,
            "test_damage.py::test_pages_that_did_not_reach_the_disk": (2_000, 50_000),
        },
    ),
    "fail": Row(
        "the N-th call of each function fails: ENOSPC, EIO, EDQUOT, EINTR, ESTALE, or writes or reads less than asked",
        "N and errors",
        "a clear error, and what was added before is intact",
        {
            "test_disk_full.py::test_the_nth_call_of_each_function_fails": ALL,
            "test_disk_full.py::test_the_nth_write_is_short": ALL,
            "test_disk_full.py::test_the_nth_call_of_a_reader_fails": ALL,
            "test_pack.py::test_every_system_call_may_fail": ALL,
            "test_compact.py::test_every_system_call_may_fail": ALL,
            "test_delete.py::test_every_call_of_a_deletion_may_fail": ALL,
        },
    ),
    "full": Row(
        "a disk that is really full: a tmpfs of 4 MB, an ext4 of 24 MB, a limit on the size of files",
        "disks",
        "no SIGBUS; the journal stays readable",
        {
            "test_disk_full.py::test_a_disk_that_is_really_full": (16, 160),
            "test_disk_full.py::test_a_limit_on_the_size_of_files": (8, 40),
        },
    ),
    "power": Row(
        "the power cut: an ext4 shut down by the kernel, while it is recorded, sealed, begun and closed",
        "cuts",
        "all that was synced is there; folders are consistent",
        {
            "test_power_cut.py::test_what_was_synced_survives_a_power_cut": (30, 1_000),
            "test_sync.py::test_what_was_begun_synced_or_closed_survives_a_power_cut": ALL,
            "test_sync.py::test_a_power_cut_at_any_point_of_sealing_loses_nothing": ALL,
        },
    ),
    "processes": Row(
        "16 writers of 5,000 records each with two live readers; in the long run 64 of 50,000",
        "records",
        "the exact union; readers only ever see it grow",
        {"test_processes.py::test_many_processes_and_two_live_readers": (2 * 16 * 5_000, 2 * 64 * 50_000)},
    ),
    "threads": Row(
        "threads; fork, spawn, a fork inside an add, exec",
        "records of 8 threads",
        "the exact union",
        {
            "test_threads.py::test_eight_threads": (2 * 8 * 50_000, 40 * 8 * 50_000),
            "test_fork.py::test_a_fork_at_any_system_call_of_an_add": ALL,
            "test_fork.py::test_exec_takes_the_process_away": ALL,
            "test_processes.py::test_a_keeper_is_handed_to_workers": ALL,
        },
    ),
    "interrupts": Row(
        "a storm of KeyboardInterrupts, one every 1 to 3 ms",
        "interrupts",
        "returned is a subset of stored; the file parses",
        {
            "test_interrupts.py::test_a_storm_of_interrupts": (1_000, 50_000),
            "test_interrupts.py::test_an_interrupt_at_every_place_of_a_call": ALL,
        },
    ),
    "clocks": Row(
        "the clock jumps by ten years, either way",
        "jumps",
        "the order is by writer and sequence",
        {"test_clocks.py::test_the_order_is_kept_whatever_the_clock_says": (10, 10)},
    ),
    "hosts": Row(
        "hosts of other names, boots, process ids and clocks: claims, states, one experiment that others read and compact",
        "hosts",
        "no number twice, no living one taken for dead, every record once",
        {
            "test_hosts.py::test_no_number_is_given_twice_and_none_is_left_out": ALL,
            "test_hosts.py::test_what_another_host_records_runs_until_it_is_silent_for_five_minutes": ALL,
            "test_hosts.py::test_compaction_and_cleaning_leave_what_another_host_writes": ALL,
            "test_hosts.py::test_the_same_number_of_a_process_is_another_process_elsewhere": ALL,
            "test_hosts.py::test_two_hosts_record_one_experiment_that_a_third_reads_and_a_fourth_compacts": ALL,
        },
    ),
    "model": Row(
        "a state machine: add, sync, kill, reopen, resume, seal, compact, delete, corrupt, edit",
        "studies of 50 steps, in the long run of 100",
        "equal to a plain list of dicts",
        {"test_model.py::test_a_study_is_as_the_model_says": (200, 5_000)},
    ),
    "fuzz": Row(
        "readers given hostile collections that a fuzzer makes, compiled and in pure Python",
        "seconds",
        "our own errors only, under 1 GB, nothing outside the folder, no code run",
        {"test_fuzz.py::test_hostile_collections": (60, 3_600)},
    ),
    "values": Row(
        "hostile values: 10,000 columns, `{}`, NaN payloads, -0.0, mixed types",
        "values",
        "the exact round trip, or a clear error",
        {
            "test_hostile_values.py::test_what_is_refused_names_key_type_and_remedy": ALL,
            "test_hostile_values.py::test_ten_thousand_keys": ALL,
            "test_hostile_values.py::test_floats_come_back_to_the_bit": ALL,
            "test_hostile_values.py::test_every_pair_of_types_shares_a_column": ALL,
        },
    ),
    "names": Row(
        "hostile names: `../x`, NUL, `=`, `/`, newline, 300 bytes, links",
        "names",
        "nothing outside the folder is touched",
        {
            "test_hostile_names.py::test_names_given_by_a_user_name_no_file": ALL,
            "test_hostile_names.py::test_links_lead_nowhere": ALL,
            "test_damage.py::test_strange_names_are_ignored": ALL,
        },
    ),
    "permission": Row(
        "a folder that may not be written, as `nobody`, and a file system that is read-only",
        "folders",
        "a clear error, and it can be read",
        {
            "test_disk_full.py::test_a_folder_in_which_one_may_not_write": ALL,
            "test_disk_full.py::test_a_read_only_file_system": ALL,
        },
    ),
    "harm": Row(
        "the disk fails, hangs, or goes away under a run; the sealing helper is missing or killed",
        "harms",
        "an error that says what is safe, or going on with a warning; no signal, no hang, no unbounded memory",
        {
            "test_no_harm.py::test_a_disk_that_hangs_at_exit_does_not_hold_the_program": ALL,
            "test_no_harm.py::test_a_disk_that_hangs_does_not_hold_the_run": ALL,
            "test_no_harm.py::test_the_folder_goes_while_it_is_recorded": ALL,
            "test_no_harm.py::test_a_permission_that_is_lost": ALL,
            "test_no_harm.py::test_a_sealing_helper_that_fails_costs_nothing_but_the_sealing": ALL,
            "test_no_harm.py::test_a_disk_that_refuses_everything_fills_no_memory": ALL,
        },
    ),
}

_ROW_OF = {test: key for key, row in ROWS.items() for test in row.tests}
_FIGURES = {test.partition("::")[2]: figure for row in ROWS.values() for test, figure in row.tests.items()}


class Shard(NamedTuple):
    """A part of a figure, for one call of a test: its seed and how many rounds it does."""

    seed: int
    rounds: int

    def __repr__(self):
        return str(self.seed)


def rounds(ci, long):
    """How often something is done in this run."""
    return long if LONG else ci


def shards(test, *, ci, long, within=1, whole=False):
    """The shards of a test, among which its figure is divided: for `parametrize`, so that workers share the work.

    Args:
        test: The name of the test's function.
        ci: How many shards there are in each run.
        long: How many in the long run: of a minute or two each.
        within: How often each is run, by other parameters of the test.
        whole: Whether the figure is no matter of choice: all that there is of something.
    """
    count = rounds(ci, long)
    figure = rounds(*_FIGURES[test])
    if SMALL and not whole:
        figure = max(figure // 10, count * within)
    return [Shard(seed, -(-figure // (count * within))) for seed in range(count)]


def row_of(nodeid):
    """The key of the row to which a test belongs, or None."""
    path, _, function = nodeid.partition("::")
    return _ROW_OF.get(f"{Path(path).name}::{function.partition('[')[0]}")


# ---- the tables ------------------------------------------------------------------------------------------------------


def table():
    """The plan as a Markdown table, for the documentation."""
    lines = ["| what is done | each run | long run | passes when | by |", "|---|---|---|---|---|"]
    for row in ROWS.values():
        files = sorted({test.partition("::")[0] for test in row.tests})
        links = ", ".join(f"[{name}](../tests/{name})" for name in files) or "-"
        lines.append(f"| {row.name} | {row.total(False)} | {row.total(True)} | {row.passes} | {links} |")
    return "\n".join(lines)


def load(path):
    """The last outcome of each test in a log of runs."""
    with open(path, encoding="utf-8") as file:
        return {entry["test"]: entry for entry in map(json.loads, file)}


def reached(outcomes):
    """What the runs in a log reached, as a Markdown table."""
    lines = [
        "| what is done | planned | reached | tests | minutes | on | failed or not run |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, row in ROWS.items():
        entries = [entry for entry in outcomes.values() if entry["row"] == key]
        if not entries:
            lines.append(f"| {row.name} | {row.total(True)} | - | 0 | - | - | not run |")
            continue
        passed = [entry for entry in entries if entry["outcome"] == "passed"]
        counted = sum(entry["reached"] for entry in passed)
        others = Counter(
            f"{entry['test'].partition('::')[2].partition('[')[0]} {entry['outcome']}: {entry['why']}"
            for entry in entries
            if entry["outcome"] != "passed"
        )
        why = "; ".join(f"{count} x {text}" for text, count in others.items()) or "-"
        minutes = sum(entry["seconds"] for entry in entries) / 60
        days = sorted({entry["at"][:10] for entry in entries})
        lines.append(
            f"| {row.name} | {row.total(True)} | {f'{counted:,}' if counted else ALL} | {len(passed)} | {minutes:.1f} | "
            f"{days[0]}{f' to {days[-1]}' if len(days) > 1 else ''} | {why} |"
        )
    versions = sorted({entry["versions"] for entry in outcomes.values()})
    return "\n".join([*lines, "", "Versions: " + "; ".join(versions) + "."])


if __name__ == "__main__":
    print(reached(load(sys.argv[1])))
