"""`Verification`, the report of `collection.verify()`: what was looked at, what is wrong, as text, as a rich table, as HTML."""

from __future__ import annotations

import html
import os
import re
import sys
from typing import TYPE_CHECKING, Final

from .errors import StoreError, storing
from .store.found import Found, affected
from .store.verify import examine

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

MOST_SHOWN: Final = 100
"""Findings that a table shows; the text has all."""

_STYLES: Final = {"suspect": "bold red", "lost": "bold red", "unverified": "yellow", "unknown": "magenta"}
_COLOURS: Final = {"suspect": "#c62828", "lost": "#c62828", "unverified": "#b26a00", "unknown": "#6a1b9a"}
_NUMERIC: Final = "text-align:right;white-space:nowrap"
_TEXT: Final = "text-align:left"
_HEADINGS: Final = ("", "file", "bytes", "records", "what")


class Verification:
    """What verifying a collection found; see `ExperimentCollection.verify`.

    Attributes:
        path: The collection's absolute path.
        ok: Whether nothing is wrong: every checksum matches, and nothing is missing that was there. Remarks do not count. False
            where there is no collection.
        records: How many records can be read.
        attempts: How many attempts have files.
        files: How many files with records, levels or edits were read, to their last byte.
        size: How many bytes these are.
        findings: All that is not as it should be, what fails first: tuples with `file` (relative to the path), `kind`
            ("unverified", "suspect", "lost" or "unknown"), the byte range `start` to before `stop` (0 and 0 where it is about
            no bytes), a `sentence`, how many `records` it is about (None where that cannot be known), and whether it
            `fails`, or is a remark.
    """

    def __init__(self, path: str, progress: Callable[[int, int], None] | None = None) -> None:
        seen = examine(path, progress)
        self.path = path
        self.records = seen.records
        self.attempts = seen.attempts
        self.files = seen.files
        self.size = seen.size
        self.findings: tuple[Found, ...] = tuple(seen.found)
        self._there = seen.there

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.fails for finding in self.findings)

    # ---- as text -----------------------------------------------------------------------------------------------------

    def _verdict(self) -> str:
        if self.ok:
            return "sound"
        if not self._there and self.findings[0].kind != "unknown":  # else it is one that this release does not know
            return "no collection here"
        failing = sum(finding.fails for finding in self.findings)
        known = affected(self.findings)
        least = any(finding.fails and finding.records is None for finding in self.findings)
        about = f", {'at least' if least else 'about'} {_many(known, 'record')}" if known else ""
        return f"NOT sound: {_many(failing, 'finding')}{about}"

    def _seen(self) -> str:
        return (
            f"{_many(self.records, 'record')} of {_many(self.attempts, 'attempt')} can be read, "
            f"from {_many(self.files, 'file')} of {_bytes(self.size)}"
        )

    def __str__(self) -> str:
        """The verdict, what was seen, and every finding, in plain lines with whole names."""
        lines = [f"{self.path}: {self._verdict()}", self._seen()]
        for finding in self.findings:
            kind = finding.kind if finding.fails else f"remark, {finding.kind}"
            parts = [kind, _one_line(finding.file), _range(finding), _count(finding)]
            lines.append(f"- {': '.join([', '.join(filter(None, parts)), _one_line(finding.sentence)])}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """The verdict in one line."""
        return f"<Verification of {self.path}: {self._verdict()}>"

    # ---- as a table --------------------------------------------------------------------------------------------------

    def _rows(self) -> list[tuple[Found, tuple[str, str, str, str, str]]]:
        """What the table shows of each finding, ids shortened to what tells them apart."""
        return [
            (
                finding,
                (
                    finding.kind if finding.fails else "remark",
                    _shortened(_one_line(finding.file)),
                    _range(finding).removeprefix("bytes "),
                    "" if finding.records is None else f"{finding.records:,}",
                    _shortened(_one_line(finding.sentence)),
                ),
            )
            for finding in self.findings[:MOST_SHOWN]
        ]

    def _more(self) -> str:
        hidden = len(self.findings) - MOST_SHOWN
        return f"and {hidden:,} more; str() of this report has all" if hidden > 0 else ""

    def __rich__(self) -> RenderableType:
        """The same as a table, for a terminal."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        mark = Text("✓ ", "bold green") if self.ok else Text("✗ ", "bold red")
        head = Text.assemble(
            mark,
            (self.path, "bold"),
            " is ",
            (self._verdict(), "green" if self.ok else "bold red"),
            "\n  ",
            self._seen(),
        )
        if not self.findings:
            return head
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for heading in _HEADINGS:
            numeric = heading in ("bytes", "records")
            table.add_column(
                heading, justify="right" if numeric else "left", no_wrap=heading == "", overflow="fold", ratio=None
            )
        for finding, cells in self._rows():
            style = _STYLES.get(finding.kind, "") if finding.fails else "dim"
            table.add_row(Text(cells[0], style), *(Text(cell, "" if finding.fails else "dim") for cell in cells[1:]))
        return Group(head, Text(), table, *([Text(self._more(), "dim")] if self._more() else []))

    def _repr_html_(self) -> str:
        """The same as HTML, for a notebook."""
        colour = "#2e7d32" if self.ok else "#c62828"
        head = (
            f'<div><b style="color:{colour}">{"✓" if self.ok else "✗"}</b> <b>{_escaped(self.path)}</b> is '
            f'<b style="color:{colour}">{_escaped(self._verdict())}</b><br>{_escaped(self._seen())}</div>'
        )
        if not self.findings:
            return head
        cells = "".join(f'<th style="text-align:left">{heading}</th>' for heading in _HEADINGS)
        rows = [f"<tr>{cells}</tr>"]
        for finding, texts in self._rows():
            tone = _COLOURS.get(finding.kind, "inherit") if finding.fails else "gray"
            first = f'<td style="text-align:left;color:{tone}"><b>{_escaped(texts[0])}</b></td>'
            rest = "".join(
                f'<td style="{_NUMERIC if place in (1, 2) else _TEXT}"{_title(finding.file) if not place else ""}>'
                f"{_escaped(text)}</td>"
                for place, text in enumerate(texts[1:])
            )
            rows.append(f"<tr>{first}{rest}</tr>")
        more = f'<div style="color:gray">{_escaped(self._more())}</div>' if self._more() else ""
        return f"{head}<table>{''.join(rows)}</table>{more}"


_ID: Final = re.compile(r"([0-9a-f]{8})[0-9a-f]{24}")
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""What a hostile name could move a terminal's cursor with, or turn a line around."""


def _one_line(text: str) -> str:
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _shortened(text: str) -> str:
    return _ID.sub(r"\1…", text)


def _escaped(text: str) -> str:
    return html.escape(_one_line(text))


def _title(text: str) -> str:
    return f' title="{_escaped(text)}"'


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004  (SI)
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def _range(finding: Found) -> str:
    return f"bytes {finding.start:,} to {finding.stop:,}" if finding.stop else ""


def _count(finding: Found) -> str:
    return "" if finding.records is None else _many(finding.records, "record")


# ---- the command -----------------------------------------------------------------------------------------------------


def verify_command(path: os.PathLike[str]) -> int:
    """Verify the collection at a path and print the report: a table on a terminal, plain lines into a pipe.

    Returns:
        The exit code: 0 when the collection is sound, else 1, also when there is none.
    """
    from rich.console import Console
    from rich.text import Text

    text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (`Path.absolute` keeps "..")
    out, err = Console(soft_wrap=False), Console(stderr=True)
    try:
        with storing("the collection cannot be verified", text, reading=True):
            report = _watched(text, err)
    except StoreError as error:
        err.print(Text(str(error), "red"), soft_wrap=True)  # as it is: paths may look like markup or an emoji
        return 1
    if out.is_terminal:
        out.print(report)
    else:
        sys.stdout.write(f"{report}\n")
    return 0 if report.ok else 1


def _watched(path: str, err: Console) -> Verification:
    """Verify with a bar on the terminal that goes away when it is done."""
    if not err.is_terminal:
        return Verification(path)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("reading every byte"), BarColumn(), MofNCompleteColumn(), TextColumn("files"))
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=None)
        return Verification(path, lambda done, total: progress.update(task, completed=done, total=total))
