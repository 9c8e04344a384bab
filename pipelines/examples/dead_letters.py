"""Rows that cannot be used: written with their reasons, counted, and not too many of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from fairness_losses.errors import InvalidInputError
from pipelines.examples.checks import REASON
from pipelines.file_systems import StrPath, is_remote, join, whole_file
from pipelines.readers.chunks import FILE, ROW, open_file
from towers.config import ITEM_ID, USER_ID

_MESSAGE_REASONS = 5


def write_dead_letters(path: StrPath, dead: pa.Table, files: Sequence[str]) -> dict[str, int]:
    """Writes one JSON object per rejected row, in order of file and row.

    Without any, there is an empty file on a local disk, and none elsewhere.

    Args:
        path: The `.jsonl` file.
        dead: As `checks.DEAD_SCHEMA`.
        files: Names of the files that the dead letters number.

    Returns:
        Reason to its count, most frequent first.
    """
    if not len(dead) and is_remote(path):
        return {}  # Beam's client of S3 cannot write an empty file.
    dead = dead.sort_by([(FILE, "ascending"), (ROW, "ascending")])
    with whole_file(path) as out:
        out.writelines(line.encode() for line in letters(dead, files))
    return dict(Counter(dead[REASON].to_pylist()).most_common())


def letters(dead: pa.Table, files: Sequence[str]) -> Iterator[str]:
    """Yields a line with a JSON object per rejected row; arguments as of `write_dead_letters`."""
    for row in dead.to_pylist():
        letter = {"file": files[row[FILE]], "row": row[ROW], "reason": row[REASON]}
        letter |= {name: row[name] for name in (USER_ID, ITEM_ID) if row[name]}
        yield f"{json.dumps(letter, ensure_ascii=False)}\n"


def check_counts(
    counts: dict[str, Any], dead_letter_dir: StrPath, max_dead_letter_share: float
) -> None:
    """Checks that no row got lost and that enough could be used.

    Args:
        counts: The content of `counts.json`.
        dead_letter_dir: Where the dead letters are.
        max_dead_letter_share: Largest share of an input's rows that may be unusable.

    Raises:
        InvalidInputError: An input has no rows or too many unusable ones, or no examples came out
            for training or for the test.
        RuntimeError: Rows read are not the rows written, rejected and repeated.
    """
    # A useless table makes the log useless, too, so the tables come first; but an empty log is all
    # there is of an input without a table.
    for name in ("users", "items", "interactions") if counts["interactions"]["read"] else counts:
        count = counts[name]
        written, read, dead = count["written"], count["read"], sum(count["dead"].values())
        kept = sum(written.values()) if isinstance(written, dict) else written
        if read != kept + dead + count["duplicates"]:
            raise RuntimeError(f"rows of {name} got lost: {count}. Please report this.")
        if not read:
            raise InvalidInputError(f"data.{name}: there are no rows in the files.")
        if dead <= max_dead_letter_share * read and kept:
            continue
        raise InvalidInputError(
            f"data.{name}: {dead:,} of {read:,} rows ({dead / read:.1%}) could not be used; "
            f"`data.max_dead_letter_share` is {max_dead_letter_share:.1%}. Most common: "
            f"{most_common(count['dead'], join(dead_letter_dir, f'{name}.jsonl'))}. "
            "Correct the rows or the configuration."
        )
    written = counts["interactions"]["written"]
    for part, purpose in (("train", "training"), ("test", "the test")):
        if not written[part]:
            raise InvalidInputError(
                f"no interaction is left for {purpose}: "
                f"{', '.join(f'{n:,} {name}' for name, n in written.items())}. Change `split`, or "
                "give more data."
            )


def most_common(reasons: Mapping[str, int], dead_letters: str) -> str:
    """Returns the most common reasons in words, each with its count and the first place.

    Args:
        reasons: Reason to its count, most frequent first.
        dead_letters: The file that `write_dead_letters` wrote.
    """
    first: dict[str, str] = {}
    with open_file(dead_letters) as lines:
        for letter in map(json.loads, lines):
            first.setdefault(letter["reason"], f"{letter['file']}, row {letter['row']}")
    most = list(reasons.items())[:_MESSAGE_REASONS]
    return "; ".join(f"{reason} ({count:,}, first in {first[reason]})" for reason, count in most)
