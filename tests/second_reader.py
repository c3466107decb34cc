"""A second reader of collections, written from `docs/format.md` alone: what it misreads, the document does not say."""

import base64
import datetime as dt
import itertools
import json
import os
import re
import struct
import time
import uuid
import zlib
from collections import namedtuple
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

SPAN = re.compile(r"(?a)(-?)P(?=.*[DS])(?:([1-9]\d*)D)?(?:T(?!0S)((?:0|[1-9]\d{0,4})(?:\.\d{0,5}[1-9])?)S)?|P0D")
BEGIN, LEVEL, EDIT, ROWS, COLUMNS, END, NOTE = range(241, 248)
EPOCH, US, DELETED = dt.datetime(1970, 1, 1), dt.timedelta(microseconds=1), object()  # noqa: DTZ001  (naive)
CLAIM = re.compile(r"(?a)(\d{6}|[1-9]\d{6,14})\.([1-9]\d{0,8})")
UNIT = re.compile(
    r"(?a)([0-9a-f]{32})\.([1-9]\d{0,8})(?:\.log|-(0|[1-9]\d{0,14})-([1-9]\d{0,14})-([0-9a-f]{8})\.parquet)"
)
PACKED = re.compile(r"(?a)[0-9a-f]{32}-([1-9]\d{0,14})-([0-9a-f]{8})\.parquet")
Unit = namedtuple("Unit", "header events rows alive")  # noqa: PYI024  (events: mark, payload; rows: local level, record)
EXTENSIONS = {
    1: tuple, 2: set, 3: frozenset, 4: Path, 5: uuid.UUID, 6: Decimal, 7: dt.datetime.fromisoformat,
    8: dt.date.fromisoformat, 9: dt.time.fromisoformat, 10: lambda items: dt.timedelta(*items),
}  # fmt: skip
TIMES = {
    "datetime": (EPOCH, US), "utc": (EPOCH.replace(tzinfo=dt.UTC), US), "time": (EPOCH, US),
    "timedelta": (dt.timedelta(), US), "date": (EPOCH.date(), dt.timedelta(1)),
}  # fmt: skip
TOLD = {
    "null": "null", "bool": "bool", "int64": "int", "uint64": "uint", "double": "float", "large_string": "text",
    "large_binary": "bytes", "date32[day]": "date", "time64[ns]": "time", "timestamp[us]": "datetime",
    "timestamp[us, tz=UTC]": "utc", "duration[us]": "timedelta", "uint32": "level",
}  # fmt: skip
_decoder = msgspec.msgpack.Decoder(
    ext_hook=lambda code, data: EXTENSIONS[code](bytes(data).decode() if 4 <= code <= 9 else unpack(data))
)


def unpack(data, depth=0):
    """The value in exact form in these bytes; its keys are text down to depth 64."""
    return _text_keys(_decoder.decode(data), depth)


def _text_keys(value, depth):
    if depth > 64 or not isinstance(value, dict):
        return [_text_keys(item, depth + 1) for item in value] if depth <= 64 and isinstance(value, list) else value
    plain = {}
    for key, item in value.items():
        name = key.decode(errors="backslashreplace") if isinstance(key, bytes) else str(key)
        while not isinstance(key, str) and (name in value or name in plain):
            name += "'"
        plain[name] = _text_keys(item, depth + 1)
    return plain


def noted(text, kind):
    """The time that a text stands for, if it is written as such a time is."""
    try:
        if kind == "timedelta":
            sign, days, seconds = (part or "0" for part in SPAN.fullmatch(text).groups())
            found = dt.timedelta(int(days), 0, int(Decimal(seconds) * 10**6)) * (-1 if sign == "-" else 1)
            return found if Decimal(seconds) < 86_400 else text
        found = {"datetime": dt.datetime, "date": dt.date, "time": dt.time}[kind].fromisoformat(text)
    except (ValueError, AttributeError, OverflowError):
        return text
    same = re.sub(r"\+00:00$", "Z", found.isoformat()) == text
    return found if same and not (kind == "datetime" and found.tzinfo) else text


def read_log(data):
    """The unit in the bytes of a log."""
    magic, length, crc = struct.unpack_from("<8sII", data)
    assert (magic, zlib.crc32(data[16 : 16 + length])) == (b"RRUNIT\x01\n", crc)
    header = unpack(data[16 : 16 + length])
    size, begun, events, rows, place = header["block"], {}, [], [], 0
    for index, offset in enumerate(range(4096, len(data) - 31, size)):
        salt, said, span, _, *slots = struct.unpack_from("<8I", data, offset)
        if (salt, said) == (header["salt"], index) and span:
            begun[index] = span, (slots[:2], slots[2:])
    while begun and place <= max(begun):
        offset, (span, slots) = 4096 + place * size, begun.get(place, (0, ()))
        start = struct.pack("<3I", header["salt"], place, span)
        sums = [zlib.crc32(start + struct.pack("<I", used) + data[offset + 32 : offset + used]) for used, _ in slots]
        verified = max([32, *(used for (used, crc), right in zip(slots, sums, strict=True) if crc == right)])
        later = min((other for other in begun if other > place), default=len(data))
        following = place + 1 if not span else place + span if verified > 32 else later
        if span:
            end = offset + verified if any(used > verified for used, _ in slots) else len(data)
            _entries(data, offset + 32, end, min(len(data), 4096 + following * size), events, rows)
        place = following
    notes = {}
    for local, kinds in (unpack(payload) for mark, payload in events if mark == NOTE):
        notes.setdefault(local, {}).update(kinds)
    for local, record, single in rows:
        for key, kind in notes.get(local, {}).items() if single else ():
            if isinstance(record.get(key), str):
                record[key] = noted(record[key], kind)
    (beat,) = struct.unpack_from("<d", data, 4088)
    return Unit(header, events, [row[:2] for row in rows], max(beat, header["time"]))


def _entries(data, at, end, room, events, rows):
    """The entries of a block: they stop at `end`, and all but the end entry stay within `room`."""
    level = 0
    while at < end and 0 < data[at] <= NOTE and (at < room or data[at] == END):
        mark, start = data[at], at + 1 if data[at] < 240 else at + 5
        at = start + (mark if mark < 240 else int.from_bytes(data[start - 4 : start], "little"))
        if at > end or (at > room and mark != END):
            return
        payload = data[start:at]
        if mark > 240:
            events.append((mark, payload))
            if mark in (ROWS, COLUMNS):
                local, count = struct.unpack_from("<II", payload)
                if count > len(payload) - 8:
                    continue
                found = unpack(payload[8:])
                rows += [(local, record, False) for record in (found if mark == ROWS else _columns(found, count))]
        elif payload and not (payload[0] == 0xCE and len(payload) <= 5):
            if payload[0] == 0xCE:
                level, payload = int.from_bytes(payload[1:5], "big"), payload[5:]
            rows.append((level, unpack(payload), True))


def _columns(columns, count):
    records = [{} for _ in range(count)]
    for name, code, data, missing in columns:
        if code in ("value", "values"):
            values = unpack(data) if code == "values" else [unpack(data) for _ in records]
        else:
            values = struct.unpack(f"<{count}{'q' if code in TIMES else code}", data)
            values = [TIMES[code][0] + number * TIMES[code][1] for number in values] if code in TIMES else values
        for record, value, none in zip(records, values, missing or bytes(count), strict=True):
            record[name] = None if none else value.time() if code == "time" else value
    return records


def read_pack(path, name):
    """The unit in a pack, every checksum of it checked."""
    described = _described(path, b"RRPACK1 ", int(name[4]), name[5])
    header, events, rows, _, _, beat, columns, runs = [*described, None, None][:8]
    assert (header["writer"], header["n"], rows) == (name[1], int(name[2]), int(name[3]))
    table = pq.read_table(path)
    _check_told(table, columns, runs)
    return Unit(header, [event[:2] for event in events], _records(table), max(beat, header["time"]))


def _check_told(table, columns, runs):
    """What a footer tells of columns and of runs of levels is what is there. A footer of before says neither."""
    if columns is not None and table.num_rows:
        assert [tuple(told) for told in columns] == [(field.name, _told(field.type)) for field in table.schema]
    if runs is not None:
        levels = table["rr_level"].to_pylist()
        assert runs == [number for level, same in itertools.groupby(levels) for number in (level, len([*same]))]


def _told(dtype):
    """How a footer tells a type."""
    if pa.types.is_large_list(dtype) or pa.types.is_list(dtype):
        return f"list:{_told(dtype.value_type)}"
    return TOLD[str(dtype)]


def read_packs(folder):
    """The units of compacted packs, by attempt, writer and number: of several the first that has most counts."""
    units = {}
    for path in sorted(folder.glob("*.parquet")):
        name = PACKED.fullmatch(path.name)
        if not name or path.is_symlink():
            continue
        attempts, described, columns = [*_described(path, b"RRPACK2 ", int(name[1]), name[2]), None][:3]
        table, first = pq.read_table(path), 0
        for attempt, writer, n, rows, _, _, details in described:
            header, events, beat, runs = [*details, None][:4]
            assert (header["attempt"], header["writer"], header["n"]) == (attempts[attempt][0], writer, n)
            _check_told(table.slice(first, rows), columns, runs)
            records = _records(table.slice(first, rows))
            unit = Unit(header, [event[:2] for event in events], records, max(beat, header["time"]))
            before = units.get((attempts[attempt][0], writer, n))
            if before is None or extent(unit) > extent(before[1]):
                units[attempts[attempt][0], writer, n] = tuple(attempts[attempt][1:]), unit
            first += rows
        assert first == table.num_rows
    return units


def _described(path, mark, size, crc):
    data = path.read_bytes()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") :]
    at = footer.rindex(mark) + 8
    sum_ = zlib.crc32(footer[:at] + b"0" * 8 + footer[at + 8 :])
    assert (len(data), zlib.crc32(data), sum_) == (size, int(crc, 16), int(footer[at : at + 8], 16))
    text = pq.read_metadata(path).metadata[b"rigorous_recorder"]
    return unpack(zlib.decompress(base64.b64decode(text[17:], validate=True)))


def _records(table):
    columns = {column: table[column].to_pylist() for column in table.column_names}
    records = [(local, {}) for local in columns["rr_level"]]
    for column, values in columns.items():
        if column.startswith("rr_") and not column.startswith("rr_key:"):
            continue
        key = column.removeprefix("rr_key:")
        exacts = columns.get(f"rr_exact:{key}", [None] * len(records))
        for (_, record), value, exact in zip(records, values, exacts, strict=True):
            if exact is not None or value is not None:
                record[key] = value if exact is None else unpack(exact, 1)
    return records


def extent(unit):
    """How many rows and other entries it has."""
    return len(unit.rows), len(unit.events)


def read_units(folder, packed=()):
    """The units in a folder and those of its attempt in compacted packs; what has most counts, then what is first; in order."""
    units = dict(packed)
    for path in sorted(folder.glob("*.parquet")) + sorted(folder.glob("*.log")):
        name = UNIT.fullmatch(path.name)
        if name and not path.is_symlink():
            unit = read_pack(path, name) if name[5] else read_log(path.read_bytes())
            assert (unit.header["version"], unit.header["features"]) == (1, [])
            before = units.get((name[1], int(name[2])))
            if before is None or extent(unit) > extent(before):
                units[name[1], int(name[2])] = unit
    return sorted(units.values(), key=lambda unit: [unit.header[key] for key in ("start", "writer", "n")])


def read_levels(units):
    """All levels by id as (parent, {key: what was said of it as (stamp, value)}), and the local numbers of each unit."""
    levels, locals_, edits = {}, [], []
    for unit in units:
        writer = unit.header["writer"]
        entries = [unpack(payload) for mark, payload in unit.events if mark == LEVEL]
        numbers = {entry[0]: (writer if entry[1] is None else entry[1], entry[2]) for entry in entries}
        for local, _, _, parent, data, stamps in entries:
            said = levels.setdefault(numbers[local], (numbers.get(parent), {}))[1]
            for key in {**data, **(stamps or {})}:
                said.setdefault(key, []).append(((stamps or {}).get(key, [0]), data.get(key, DELETED)))
        edits += [(numbers, writer, *unpack(payload)) for mark, payload in unit.events if mark == EDIT]
        locals_.append(numbers)
    for numbers, writer, local, version, when, sequence, data, deleted in edits:
        for key, value in {**data, **dict.fromkeys(deleted, DELETED)}.items():
            if numbers.get(local) in levels:
                levels[numbers[local]][1].setdefault(key, []).append(([version, when, writer, sequence], value))
    return levels, locals_


def inherited(levels, level):
    """What the levels give to a record of one of them."""
    parent, said = levels.get(level, (None, {}))
    own = {key: max(values, key=lambda each: each[0])[1] for key, values in said.items()}
    above = inherited(levels, parent) if parent else {}
    return {**above, **{key: value for key, value in own.items() if value is not DELETED}}


def automatic(units, number):
    """The automatic keys of an attempt."""
    begins, ends, alive = [], [], {}
    for unit in units:
        writer = unit.header["writer"]
        alive[writer] = max(alive.get(writer, 0.0), unit.alive)
        begins += [(*unpack(payload)[1:5], unit.header) for mark, payload in unit.events if mark == BEGIN]
        ends += [(*unpack(payload), writer) for mark, payload in unit.events if mark == END]
    if not begins:
        return {"experiment_number": number}
    begins.sort(key=lambda begin: (begin[3], begin[1]))
    _, latest, _, run, header = begins[-1]
    chosen = [end for end in ends if end[3] and end[4] >= run]
    chosen = chosen or [end for end in ends if not end[3] and end[5] == header["writer"]]
    silent = ("killed" if _gone(header, alive[header["writer"]]) else None, alive[header["writer"]])
    state, end, *_ = max(chosen, key=lambda end: end[1], default=silent)
    keys = {"experiment_number": number, "experiment_start_time": begins[0][1]}
    keys["error_number"] = begins[0][0] + 1 if state in ("failed", "interrupted", "killed") else 0
    if state is None:
        return keys
    end, duration = max(end, latest), max(end - latest, 0.0)
    for _, start, _, _, header in begins[:-1]:
        own = [end[1] for end in ends if not end[3] and end[5] == header["writer"]]
        duration += max(0.0, max(own, default=alive[header["writer"]]) - start)
    return {**keys, "had_error": state != "finished", "experiment_end_time": end, "experiment_duration": duration}


def _gone(header, beat):
    """Whether the process that wrote a unit is known to be gone."""
    boot, namespace = Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")
    if (times := os.readlink("/proc/self/ns/time")) != "time:[4026531834]":
        namespace += f" {times}"
    if header["host"] != os.uname().nodename or (header["boot"] == boot and header["namespace"] != namespace):
        return False
    if header["boot"] != boot:
        return beat < time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    stat = Path(f"/proc/{header['pid']}/stat")
    fields = stat.read_text().rpartition(")")[2].split() if stat.exists() else "X"
    return fields[0] in "ZX" or header["pid_start"] not in (0, int(fields[19]))


def read(path):
    """All records of a collection, in order, each merged with what it inherits."""
    path, records = Path(path), []
    assert json.loads((path / "format").read_text())["version"] == 1
    notes = inherited(read_levels(read_units(path / "notes"))[0], ("", 0))
    packed, attempts, deleted = read_packs(path / "packs"), set(), set()
    for name in filter(None, map(CLAIM.fullmatch, os.listdir(path))):
        for entry in (path / name[0]).iterdir():
            found = re.fullmatch(r"([0-9a-f]{32})(\.deleted)?", entry.name)
            if found:
                (deleted if found[2] else attempts).add((int(name[1]), int(name[2]), found[1]))
    attempts |= {(*claim, attempt) for (attempt, _, _), (claim, _) in packed.items()}
    for number, try_, attempt in sorted(attempts - deleted):
        own = {key[1:]: unit for key, (_, unit) in packed.items() if key[0] == attempt}
        units = read_units(path / f"{number:06d}.{try_}" / attempt, own)
        levels, locals_ = read_levels(units)
        above = {**notes, **automatic(units, number)}
        for unit, numbers in zip(units, locals_, strict=True):
            bases = {local: {**above, **inherited(levels, level)} for local, level in numbers.items()}
            records += [{**bases.get(local, above), **record} for local, record in unit.rows]
    return records
