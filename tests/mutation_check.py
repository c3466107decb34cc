"""Takes out one mechanism at a time, in a copy of the package, and runs the tests that are there for it: each must be caught.

    python tests/mutation_check.py [WORD ...]

runs the mutants of `mutants.toml` whose name has one of the words; without words all, in some minutes. It prints a table of
mechanisms and the test that failed. It exits with 1 if any mutant survived, and with an error if a text to be replaced is
not there exactly once: then the code has changed, and the entry must follow it.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 240


class Mutant(NamedTuple):
    """A mechanism that is taken out.

    Attributes:
        name: The mechanism.
        file: Below `rigorous_recorder/`.
        old, new: The text, which must be there exactly once, and what stands in its place.
        tests: Arguments of pytest: files below `tests/`, perhaps with `-k`.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = [Mutant(**entry) for entry in tomllib.loads((ROOT / "tests" / "mutants.toml").read_text("utf-8"))["mutant"]]


def mutated(mutant, folder):
    """A copy of the project in a folder, with the mutant's text in place; compiled where it is C."""
    for name in ("rigorous_recorder", "tests", "docs", "examples", "notebooks", "benchmarks"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder / path.name)
    path = folder / "rigorous_recorder" / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise LookupError(f"{mutant.name}: its text is {text.count(mutant.old)} times in {mutant.file}, not once")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    if path.suffix == ".c":
        target = path.with_name("_native" + sysconfig.get_config_var("EXT_SUFFIX"))
        target.unlink(missing_ok=True)
        include = sysconfig.get_path("include")
        subprocess.run(
            ["cc", "-O3", "-shared", "-fPIC", f"-I{include}", str(path), "-o", str(target)],
            check=True,
            capture_output=True,
        )


def pytest(folder, arguments, *, pure):
    """Run pytest in a copy of the project until a test fails."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "HYPOTHESIS_PROFILE": "dev"}
    if pure:
        environment["RIGOROUS_RECORDER_PURE"] = "1"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--tb=no",
        "-rfE",
    ]
    return subprocess.run(
        [*command, f"--timeout={TIMEOUT // 2}", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip


def examine(mutant):
    """Run the tests of a mutant: which failed that passes without the mutation, or None; and how long it took."""
    begun, pure = time.monotonic(), mutant.file == "adding.py"
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as name:
        mutated(mutant, Path(name))
        files, _, words = mutant.tests.partition(" -k ")
        arguments = [*(f"tests/{file}" for file in files.split()), *(["-k", words.strip("'")] if words else [])]
        try:
            done = pytest(Path(name), arguments, pure=pure)
        except subprocess.TimeoutExpired:
            return f"no end within {TIMEOUT} s", time.monotonic() - begun
    if done.returncode == 0:
        return None, time.monotonic() - begun
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, flags=re.MULTILINE)
    if not failed:
        raise RuntimeError(
            f"{mutant.name}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    if pytest(ROOT, [failed[1]], pure=pure).returncode:
        raise RuntimeError(f"{mutant.name}: {failed[1]} fails without the mutation as well")
    return failed[1].removeprefix("tests/"), time.monotonic() - begun


def main(words):
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    survived = 0
    print("| mechanism taken out | in | caught by | s |\n|---|---|---|---|", flush=True)
    with ThreadPoolExecutor(int(os.environ.get("WORKERS", "2"))) as pool:
        for mutant, (caught, seconds) in zip(chosen, pool.map(examine, chosen), strict=True):
            survived += caught is None
            print(f"| {mutant.name} | {mutant.file} | {caught or '**SURVIVED**'} | {seconds:.0f} |", flush=True)
    print(f"\n{len(chosen) - survived} of {len(chosen)} mutants were caught.")
    sys.exit(survived > 0)


if __name__ == "__main__":
    main(sys.argv[1:])
