"""Hostile collections for the fuzzer: whole by their checksums, and wrong in what they say; drawn by dice from a seed.

Flipped bits die at the checksums, so here whoever made the files computed these anew: each entry, header, footer and
name is as our writers make it, with a part replaced by what no writer would put there.
"""

import base64
import io
import json
import os
import struct
import zlib
from pathlib import Path

import msgspec
import polars as pl
import units

from rigorous_recorder.store import layout, packmeta, schema
from rigorous_recorder.store import unit as u
from rigorous_recorder.store.pack import parquet
from rigorous_recorder.store.replay import Event

WRITERS = [digit * 32 for digit in "ab"]
ATTEMPTS = [digit * 32 for digit in "cd"]
NUMBERS = [0, 1, 2, 3, 7, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, -1, -(2**63)]
FLOATS = [0.0, -0.0, 1.5, float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 1.7e9]
TEXTS = ["", "x", "a", "model", "rr_level", "rr_exact:x", "rr_lineage", "rr_attempt", "experiment_number", "had_error",
         "x" * 300, "../../x", "a/b,c=d", "\0", "\n", "finished", "é" * 40, "2026-01-02T03:04:05", "P1D",
         "__class__", "{}", "[[[[", "date:9999", "decimal:sNaN", "NaN", "1e999999999"]  # fmt: skip
EXTENSIONS = [b"", b"\x90", b"\x93\1\2\3", b"\x91\x91\1", b"1.5", b"sNaN", b"NaN", b"1E+999999999", b"2026-01-02",
              b"9999-12-31T23:59:59.999999", b"0001-01-01T00:00:00+23:59", b"\xff\xff", b"a\0b", b"/etc/passwd",
              b"\x93\xcb\x7f\xf0\0\0\0\0\0\0\0\0", b"\x93\xcf\xff\xff\xff\xff\xff\xff\xff\xff\0\0",
              b"12345678-1234-5678-1234-567812345678", b"23:59:60", b"12:00:00+99:99"]  # fmt: skip
NAMES = ["x", " ", "a\nb", "..x", "=", "ü" * 60, "n" * 255, ".tmp-" + "a" * 32 + "-0", "a" * 32 + ".0.log", "A" * 32 + ".1.log",
         "a" * 32 + ".01.log", "a" * 32 + ".1-1-1-00000000.parquet.tmp", ".hidden", "notes.log", "x.py", "sitecustomize.py",
         "polars.py", "__init__.py", "pickle"]  # fmt: skip


def integer(value):
    return msgspec.msgpack.encode(value)


class Dice:
    """Draws, of which the seed says all."""

    def __init__(self, random):
        self.random = random
        self.pick = random.choice

    def once_in(self, n):
        return self.random.randrange(n) == 0

    # ---- MessagePack -------------------------------------------------------------------------------------------------

    def value(self, depth=0):
        """One value, as bytes of MessagePack, mostly whole."""
        kind = self.random.randrange(22)
        if depth > 4:
            kind %= 8
        if kind < 3:
            return integer(self.pick(NUMBERS))
        if kind < 5:
            return msgspec.msgpack.encode(self.pick(FLOATS))
        if kind < 8:
            return msgspec.msgpack.encode(self.pick([*TEXTS, None, True, False, b"", b"bytes"]))
        if kind < 11:
            return self.array([self.value(depth + 1) for _ in range(self.random.randrange(4))])
        if kind < 14:
            return self.map(depth)
        if kind < 17:
            return self.extension(self.pick([*range(-2, 12), 77]), self.pick(EXTENSIONS))
        if kind == 17:  # deep nesting
            return (
                self.pick([b"\x91", b"\x81\xa1x", b"\x81\x90"]) * self.pick([50, 64, 66, 300, 900, 1100, 100_000])
                + b"\xc0"
            )
        if kind == 18:  # lengths that nothing follows
            return (
                self.pick([b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"])
                + self.pick([b"\xff" * 4, b"\0\0\1\0"])
                + b"x" * 9
            )
        if kind == 19:
            return self.random.randbytes(self.random.randrange(12))
        if kind == 20:
            inner = self.value(depth + 1)
            for _ in range(self.pick([1, 3, 70, 400])):
                inner = self.extension(self.pick([1, 2, 3]), b"\x91" + inner)
                if len(inner) > 60_000:
                    break
            return inner
        return msgspec.msgpack.encode({self.pick(TEXTS): self.pick(TEXTS) * 50})

    def extension(self, code, payload):
        return b"\xc9" + struct.pack(">Ib", len(payload), code) + payload

    def array(self, parts):
        head = bytes((0x90 | len(parts),)) if len(parts) < 16 else b"\xdd" + struct.pack(">I", len(parts))
        return head + b"".join(parts)

    def map(self, depth=0):
        count = self.random.randrange(5)
        parts = []
        for _ in range(count):
            key = integer(self.pick(TEXTS)) if not self.once_in(6) else self.value(depth + 1)
            parts.append(key + self.value(depth + 1))
        return bytes((0x80 | count,)) + b"".join(parts)

    def fields(self, *honest):
        """An array of fields, now and then one replaced, left out or doubled."""
        parts = [one if not self.once_in(8) else self.value() for one in honest]
        if self.once_in(25):
            parts.pop()
        if self.once_in(25):
            parts.append(self.value())
        return self.array(parts) if not self.once_in(40) else self.value()

    # ---- entries -----------------------------------------------------------------------------------------------------

    def level(self, local=None):
        local = self.pick([0, 1, 2, 3]) if local is None else local
        maker = self.pick([None, None, WRITERS[0], ATTEMPTS[0]])
        parent = self.pick([None, 0, 1, local])
        stamps = self.pick([b"\xc0", b"\xc0", self.map(), b"\x81\xa1x" + self.fields(*map(integer, (1, 1.5, "a", 2)))])
        return units.event(
            u.LEVEL,
            self.fields(
                integer(local), integer(maker), integer(self.pick([0, local])), integer(parent), self.map(), stamps
            ),
        )

    def entry(self):
        """An entry, as bytes, or a single record as (level, payload)."""
        kind = self.random.randrange(16)
        if kind < 4:
            return self.pick([0, 1, 2, 3, 9, 2**32 - 1]), self.map() if not self.once_in(5) else self.value()
        if kind < 6:
            record = {self.pick(["x", "y"]): self.pick([*FLOATS, 1, 2])}
            return b"".join(units._packed((1, record), 0) for _ in range(self.pick([1, 30, 200])))
        if kind < 8:
            return self.level()
        if kind == 8:
            return units.event(u.EDIT, self.fields(*map(integer, (1, 1, 1.5, 1)), self.map(), b"\x91\xa1x"))
        if kind == 9:
            return units.event(
                u.BEGIN, self.fields(*map(integer, (1, 0, 1.7e9)), self.map(), integer(self.pick([1, 2])))
            )
        if kind == 10:
            state = self.pick(["finished", "failed", "weird", ""])
            return units.event(u.END, self.fields(*map(integer, (state, 1.7e9, self.pick([None, "why"]), False, 1))))
        if kind == 11:
            kinds = b"\x81\xa1x" + integer(self.pick(["datetime", "date", "time", "timedelta", "nonsense"]))
            return units.event(u.NOTE, self.fields(integer(1), kinds))
        if kind == 12:
            return units.event(
                u.ROWS, self.prefix() + self.array([self.map() for _ in range(self.pick([0, 1, 3, 20]))])
            )
        if kind < 15:
            return units.event(u.COLUMNS, self.columns())
        return self.pick(
            [
                b"\xf0\0\0\0\0",
                b"\xff",
                b"\x01\xce",
                b"\x05\xce\0\0\0\1",
                self.random.randbytes(9),
                b"\xf0\xff\xff\xff\xff",
            ]
        )

    def prefix(self, count=None):
        if count is None or self.once_in(4):
            count = self.pick([0, 1, 3, 20, 1000, 2**20, 2**31, 2**32 - 1])
        return u.BLOCK_PREFIX.pack(self.pick([0, 1, 2, 2**32 - 1]), count)

    def columns(self):
        count = self.pick([0, 1, 3, 20])
        columns = []
        for place in range(self.pick([0, 1, 1, 2, 3, 50])):
            code = self.pick(
                [*"?bhiqBHIQefd", "datetime", "utc", "time", "timedelta", "date", "values", "value", "nonsense"]
            )
            size = struct.calcsize("<" + code) if code in "?bhiqBHIQefd" else 8
            data = self.pick(
                [
                    bytes(size * count),
                    b"\xff" * (size * count),
                    b"\x7f" * (size * count),
                    self.random.randbytes(size * count),
                ]
            )
            if code == "value":
                data = self.value()
            if code == "values":
                data = self.array([self.value(3) for _ in range(count)])
            if self.once_in(10):
                data = data[:-1]
            missing = self.pick([b"", b"", b"\1" * count, bytes(count), b"\1"])
            name = self.pick(TEXTS) if self.once_in(3) else f"c{place}"
            columns.append(self.fields(*map(integer, (name, code, data, missing))))
        return self.prefix(count) + self.array(columns)

    # ---- units -------------------------------------------------------------------------------------------------------

    def header(self, writer, n, attempt):
        fields = {
            "writer": writer,
            "n": n,
            "attempt": attempt,
            "time": 1.7e9,
            "start": 1.7e9,
            "block": self.pick([512, 65536]),
        }
        if self.once_in(6):
            changed = self.pick(["time", "start"])
            fields[changed] = self.pick(FLOATS)
        if self.once_in(8):
            fields["block"] = self.pick([64, 65, 100, 1 << 17])
        if self.once_in(10):
            fields[self.pick(["version", "pid", "pid_start", "n"])] = self.pick(NUMBERS)
        if self.once_in(10):
            fields[self.pick(["host", "boot", "namespace", "writer", "attempt"])] = self.pick(TEXTS)
        if self.once_in(3):
            here = os.uname().nodename
            fields["host"] = here
        return units.header(**fields)

    def log(self, writer, n, attempt):
        """The bytes of a unit whose checksums match."""
        head = self.header(writer, n, attempt)
        start = [] if self.once_in(5) else [self.level(0), self.level(1)]
        if not self.once_in(4):
            start.insert(
                0, units.event(u.BEGIN, self.array([*map(integer, (1, 0, 1.7e9)), b"\x81\xa2lr\1", integer(1)]))
            )
        entries = [*start, *(self.entry() for _ in range(self.random.randrange(30)))]
        entries = [one for one in entries if isinstance(one, bytes) or len(one[1]) < 2**31]
        data = bytearray(units.build(entries, head, sealed=not self.once_in(5)))
        if self.once_in(5):
            struct.pack_into("<d", data, u.BEAT, self.pick(FLOATS))
        for _ in range(self.pick([0, 0, 0, 1, 5, 40])):
            at = self.random.randrange(len(data))
            data[at] = self.random.randrange(256)
        if self.once_in(10):
            del data[self.random.randrange(len(data)) :]
        return bytes(data)

    # ---- packs -------------------------------------------------------------------------------------------------------

    def frame(self):
        rows = self.pick([0, 1, 3, 50])
        columns = {}
        if not self.once_in(8):
            columns["rr_level"] = pl.Series(
                [self.pick([0, 1, 2, 9]) for _ in range(rows)],
                dtype=self.pick([pl.UInt32, pl.UInt32, pl.UInt32, pl.Int64, pl.String, pl.Float64]),
                strict=False,
            )
        for name in self.random.sample(
            ["x", "y", "", "rr_key:x", "rr_exact:x", "rr_exact:z", "rr_key:", "a.b", "rr_lineage", "é"],
            self.random.randrange(4),
        ):
            columns[name] = self.series(name, rows)
        if not columns:
            columns["x"] = self.series("x", rows)
        return pl.DataFrame(columns)

    def series(self, name, rows):
        if name.startswith("rr_exact:") and not self.once_in(4):
            return pl.Series([self.pick([None, self.value()]) for _ in range(rows)], dtype=pl.Binary)
        values = [self.random.randrange(100) for _ in range(rows)]
        kind = self.random.randrange(16)
        if kind < 3:
            return pl.Series(values, dtype=self.pick([pl.Int64, pl.Float64, pl.UInt64, pl.Int8, pl.Float32, pl.Int128]))
        if kind == 3:
            return pl.Series([self.pick([*TEXTS, None]) for _ in values], dtype=pl.String)
        if kind == 4:
            return pl.Series([None] * rows, dtype=pl.Null)
        if kind == 5:
            return pl.Series([[value] * 2 for value in values], dtype=pl.List(pl.Int64))
        if kind == 6:
            return pl.Series(
                [{"a": value, "b": "x"} for value in values], dtype=pl.Struct({"a": pl.Int64, "b": pl.String})
            )
        if kind == 7:
            return pl.Series([self.pick("ab") for _ in values], dtype=self.pick([pl.Categorical, pl.Enum(["a", "b"])]))
        if kind == 8:
            return pl.Series([self.pick([*NUMBERS[:-4], -(2**62)]) for _ in values], dtype=pl.Int64).cast(
                self.pick(
                    [pl.Datetime("us"), pl.Datetime("ns", "UTC"), pl.Datetime("us", "Asia/Tokyo"), pl.Duration("us")]
                )
            )
        if kind == 9:
            return pl.Series([self.pick([0, 1, -(2**31), 2**31 - 1]) for _ in values], dtype=pl.Int32).cast(pl.Date)
        if kind == 10:
            return pl.Series(values, dtype=pl.Int64).cast(pl.Time)
        if kind == 11:
            return pl.Series(values).cast(pl.Decimal(38, 3))
        if kind == 12:
            return pl.Series([[[value]] for value in values], dtype=pl.List(pl.List(pl.Int64)))
        if kind == 13:
            return pl.Series([[1, 2]] * rows, dtype=pl.Array(pl.Int64, 2))
        if kind == 14:
            return pl.Series([self.value() for _ in values], dtype=pl.Binary)
        return pl.Series([self.pick([True, None]) for _ in values], dtype=pl.Boolean)

    def events(self, rows):
        walked = []
        for _ in range(self.random.randrange(10)):
            entry = self.entry()
            if isinstance(entry, bytes) and entry[0] > u.LONG and len(entry) > u.ENTRY_HEAD:
                row = self.pick([0, 0, rows, rows + 1, 10**6]) if not self.once_in(9) else self.pick(NUMBERS)
                walked.append(Event(entry[0], entry[u.ENTRY_HEAD :], row))
        return packmeta.kept_events(walked)

    def pack(self, writer, n, attempt):
        """The name and the bytes of a pack whose checksums match."""
        frame = self.frame()
        rows = frame.height if not self.once_in(8) else self.pick([0, 1, 10**6, 10**14])
        header = self.header(writer, n, attempt)
        fields = [header, self.events(frame.height), rows, self.pick([0, 10_000, 2**63]), 7, self.pick(FLOATS)]
        if self.once_in(2):
            fields += [self.told_columns(frame), self.told_runs(frame)]
        content = self.parquet(frame, fields, "RRPACK1")
        return layout.pack_name(writer, n, rows, max(len(content), 1), zlib.crc32(content)), content

    def compacted(self):
        """The name and the bytes of a pack of several units whose checksums match."""
        frame = self.frame()
        attempts = [[attempt, self.pick([1, 1, 2]), self.pick([1, 1, 2])] for attempt in ATTEMPTS]
        packed, left = [], frame.height
        for nth in range(self.pick([0, 1, 2, 3])):
            rows = self.pick([0, 1, left]) if not self.once_in(12) else self.pick(NUMBERS)
            place, writer, n = self.pick([0, 0, 1]), self.pick(WRITERS), nth + 1
            header = self.header(writer, n, ATTEMPTS[place])
            details = [
                header,
                self.events(frame.height),
                self.pick(FLOATS),
                self.told_runs(frame.head(max(0, min(rows, 50)))),
            ]
            unit = [place, writer, n, rows, self.pick([0, 10_000, 2**63]), 7, details[: self.pick([3, 4])]]
            if self.once_in(12):
                unit[self.random.randrange(len(unit))] = self.pick([*NUMBERS, *TEXTS[:3], None, [[1]]])
            packed.append(unit)
            left = max(0, left - rows)
        content = self.parquet(frame, [attempts, packed, self.told_columns(frame)][: self.pick([2, 3])], "RRPACK2")
        return layout.packed_name(
            layout.packed_id(self.pick([0, 1])), max(len(content), 1), zlib.crc32(content)
        ), content

    def parquet(self, frame, fields, mark):
        """The bytes of a pack, in which some of what its footer says was replaced."""
        if self.once_in(12):
            fields[self.random.randrange(len(fields))] = self.pick([*NUMBERS, *TEXTS[:3], None, [[1]]])
        packed = zlib.compress(msgspec.msgpack.encode(fields) if not self.once_in(20) else self.value())
        if self.once_in(40):
            packed = zlib.compress(bytes(1 << 26))
        text = f"{mark} {'0' * 8} {base64.b64encode(packed).decode()}"
        content = bytearray(parquet(frame, text, mark.encode())) if frame.width else bytearray()
        if self.once_in(3):  # wrong in the columns or the footer, and stamped again
            for _ in range(self.pick([1, 1, 2, 20])):
                at = self.random.randrange(len(content) - 8)
                content[at] = self.random.randrange(256)
            restamp(content, mark.encode())
        if self.once_in(20):
            del content[self.random.randrange(len(content)) :]
        return bytes(content)

    def told_columns(self, frame):
        """What a footer tells of the columns of a frame, or says instead."""
        known = {**{dtype: name for name, dtype in schema.TYPES.items()}, pl.UInt32(): packmeta.LEVELS_TYPE}
        told = [[name, known.get(dtype, "list:float")] for name, dtype in frame.schema.items()]
        if self.once_in(4):
            told.append([self.pick(TEXTS), self.pick([*schema.TYPES, "list:int", "list:list:int", "level", ""])])
        if told and self.once_in(6):
            del told[self.random.randrange(len(told))]
        if self.once_in(20):
            told = self.pick([None, [], [[]], told * 5000, {}, "x"])
        return told

    def told_runs(self, frame):
        """What a footer tells of the levels of a frame's rows, or says instead."""
        levels = frame["rr_level"] if frame.schema.get("rr_level") == pl.UInt32 else pl.Series([], dtype=pl.UInt32)
        told = schema.runs_of(levels)
        if told and self.once_in(4):
            told[self.random.randrange(len(told))] = self.pick([*NUMBERS, frame.height])
        if self.once_in(8):
            told = self.pick([None, [], [1], [1, frame.height], [1, 0, 1, frame.height], [1, 1] * 10**5, {}])
        return told

    # ---- the folder --------------------------------------------------------------------------------------------------

    def collection(self, path, outside):
        """A hostile collection at a path; links in it lead to `outside`."""
        path = Path(path)
        path.mkdir()
        said = {"format": "rigorous_recorder", "version": 1, "features": [], "id": "e" * 32}
        if self.once_in(15):
            said[self.pick([*said])] = self.pick([None, 2, 1.5, True, "x", ["zebra"], {}, [[]], 10**400])
        text = json.dumps(said).encode()
        if self.once_in(30):
            text = self.pick([b"", b"[" * 100_000, b"\xff\xfe", b"null", b"1" * 60_000, b'{"format":' * 9000])
        if not self.once_in(20):
            (path / "format").write_bytes(text)
        claims = [
            layout.claim_name(self.pick([1, 1, 2, 999_999, 10**15 - 1]), self.pick([1, 1, 2, 10**9 - 1]))
            for _ in range(self.pick([1, 1, 2]))
        ]
        for claim in claims:
            for attempt in ATTEMPTS[: self.pick([0, 1, 1, 1, 2])]:
                folder = path / claim / attempt
                folder.mkdir(parents=True, exist_ok=True)
                self.units(folder, attempt, outside)
        if self.once_in(3):
            (path / "notes").mkdir(exist_ok=True)
            self.units(path / "notes", "", outside)
        if self.once_in(4):
            (path / "packs").mkdir()
            for _ in range(self.pick([1, 1, 2])):
                name, content = self.compacted()
                (path / "packs" / name).write_bytes(content)
        for folder in (path, *filter(Path.is_dir, path.iterdir())):
            if self.once_in(6):
                self.strange(folder / self.pick([*NAMES, "notes", "000001.1", "packs", ATTEMPTS[1]]), outside)

    def units(self, folder, attempt, outside):
        for writer in WRITERS[: self.pick([1, 1, 2])]:
            for n in range(1, self.pick([2, 2, 3, 4])):
                if self.once_in(12):
                    continue
                if self.once_in(3):
                    name, content = self.pack(writer, n, attempt)
                else:
                    name, content = layout.log_name(writer, n), self.log(writer, n, attempt)
                if self.once_in(25):
                    self.strange(folder / name, outside)
                elif not os.path.lexists(folder / name):  # else something strange of before: a pipe that nobody reads
                    (folder / name).write_bytes(content)

    def strange(self, path, outside):
        """Something at a path that is no file of ours."""
        if os.path.lexists(path):
            return
        kind = self.pick(
            ["file", "folder", "link", "link to a folder", "link to nothing", "itself", "pipe", "device", "hole"]
        )
        if kind == "file":
            path.write_bytes(self.pick([b"", b"x", b"import os\nos.abort()\n", u.MAGIC, bytes(9000)]))
        elif kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(outside / "canary")
        elif kind == "link to a folder":
            path.symlink_to(outside)
        elif kind == "link to nothing":
            path.symlink_to("../../../nothing")
        elif kind == "itself":
            path.symlink_to(path)
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "device" and os.geteuid() == 0:
            os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero, which never ends
        else:
            path.touch()
            os.truncate(path, 1 << 42)


def restamp(content, mark):
    """Make the checksum in a footer that of the footer as it is now, as whoever changed it would."""
    try:
        start = len(content) - packmeta._footer_length(bytes(content[-8:]), len(content), "")
    except Exception:  # noqa: BLE001  (its length is what was changed: it stays as wrong as it is)
        return
    footer = memoryview(content)[start:]
    match = packmeta._last_text(bytes(footer), mark)
    if match is not None:
        footer[match.start(1) : match.end(1)] = b"0" * 8
        footer[match.start(1) : match.end(1)] = f"{zlib.crc32(footer):08x}".encode()


def as_parquet(frame, **options):
    """A frame as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, **options)
    return buffer.getvalue()
