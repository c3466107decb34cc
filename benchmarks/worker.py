"""A worker: runs one contestant in this fresh process and writes what it measured to a file as JSON."""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.workloads import Contestant, Job, Sizes


def main(job_text: str, answer_file: str) -> None:
    told = json.loads(job_text)
    job = Job(told["contestant"], told["folder"], Sizes(**told["sizes"]))
    module, function = job.contestant.split(".")
    contestant: Contestant = getattr(importlib.import_module(f"benchmarks.contestants.{module}"), function)
    measured = contestant(job)
    with open(answer_file, "w", encoding="utf-8") as file:
        json.dump(measured, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
