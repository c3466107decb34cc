"""Real power cuts, as far as a kernel can be made to do one: an ext4 that is shut down without flushing anything."""

import json
import shutil
import subprocess

import children
import plan
import pytest

CUTS = children.ROOT / "tests" / "power_cuts.py"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A file with a fresh ext4; skips where it cannot be mounted."""
    folder = tmp_path_factory.mktemp("disk")
    path = folder / "image"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    if not shutil.which("mkfs.ext4"):
        pytest.skip("NOT TESTED: there is no mkfs.ext4")
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True, capture_output=True)
    tried = ["unshare", "-m", "mount", "-o", "loop", path, folder]
    allowed = subprocess.run(tried, capture_output=True, text=True, timeout=60)
    if allowed.returncode:
        pytest.skip(f"NOT TESTED, mounting is refused here: {allowed.stderr.strip()}")
    return path


@pytest.mark.privileged
@pytest.mark.parametrize(
    "shard", plan.shards("test_what_was_synced_survives_a_power_cut", ci=1, long=10, within=2), ids=repr
)
def test_what_was_synced_survives_a_power_cut(image, tmp_path, journal, shard, reached):
    mine, disk, scratch = tmp_path / "image", tmp_path / "disk", tmp_path / "scratch"
    shutil.copyfile(image, mine)
    disk.mkdir()
    scratch.mkdir()
    program = [children.PYTHON, CUTS, mine, disk, scratch, journal, str(shard.seed), str(shard.rounds)]
    done = subprocess.run(
        ["unshare", "-m", *program], env=children.ENVIRONMENT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["cuts"] == shard.rounds
    assert told["with records not synced"], "no cut had anything to take: these tests prove nothing"
    reached(shard.rounds)
