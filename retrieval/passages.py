"""In: a corpus file in a common layout. Out: passages; and the hit, a passage with its score."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .rows import LocatedRow, OnBadRow, Row, read_located_rows

_RECENT_IDS = 100_000  # ids in memory while an index is built
_ID_KEYS = ("id", "_id", "docid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """One retrievable piece of text."""

    id: str
    title: str = ""
    text: str

    def __post_init__(self) -> None:
        if not (
            isinstance(self.id, str) and isinstance(self.title, str) and isinstance(self.text, str)
        ):
            name, value = next(
                (name, value)
                for name in ("id", "title", "text")
                if not isinstance(value := getattr(self, name), str)
            )
            raise ValueError(
                f"Passage {self.id!r}: {name} is {type(value).__name__} ({value!r:.40}); "
                "passages hold text. Convert it to a string."
            )
        if not self.id:
            raise ValueError(f"A passage has an empty id (text {self.text[:40]!r}). Give it one.")

    @property
    def contents(self) -> str:
        r"""Title and text in Search-R1's form: ``'"Title"\ntext'``.

        The first line is the title also where it is empty: clients split there.
        """
        return f'"{self.title}"\n{self.text}'


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One passage that a search found."""

    passage: Passage
    score: float
    """Higher is better; comparable within one search only."""


def read_passages(path: str | Path, *, on_bad_row: OnBadRow = "raise") -> Iterator[Passage]:
    r"""The passages of a corpus file, in file order.

    A row is ``{id, title, text}`` (``_id`` and ``docid`` also serve as the id; the title may be
    missing) or ``{id, contents}`` in Search-R1's form, whose first line is the quoted title;
    without a quoted first line the whole contents is the text. Whole numbers as ids become digits.

    Args:
        path: A file that `read_rows` reads.
        on_bad_row: ``raise`` at the first bad row, or ``skip`` bad rows and warn with their number.

    Raises:
        ValueError: If a row is no passage; the message names file and line.
    """
    return _passages(read_located_rows(path, on_bad_row=on_bad_row), on_bad_row)


def _passages(rows: Iterator[LocatedRow], on_bad_row: OnBadRow) -> Iterator[Passage]:
    num_skipped, first_problem = 0, ""
    for located in rows:
        try:
            passage = _passage(located.row)
        except ValueError as error:
            message = f"{located.where}: {error}"
            if on_bad_row == "raise":
                raise ValueError(message) from error
            num_skipped += 1
            first_problem = first_problem or message
        else:
            yield passage
    if num_skipped:
        warnings.warn(
            f"Skipped {num_skipped} bad passages; the first: {first_problem}", stacklevel=2
        )


def _passage(row: Row) -> Passage:
    key = next((key for key in _ID_KEYS if row.get(key) is not None), None)
    if key is None:
        raise ValueError(f'no id among the keys {_keys(row)}. Add "id".')
    identity = row[key]
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if row.get("text") is not None:
        return Passage(id=identity, title=row.get("title") or "", text=row["text"])
    contents = row.get("contents")
    if not isinstance(contents, str):
        raise ValueError(
            f'no string in "text" or "contents" among the keys {_keys(row)}. Add one of them.'
        )
    first, _, rest = contents.partition("\n")
    if len(first) >= 2 and first.startswith('"') and first.endswith('"'):
        return Passage(id=identity, title=first[1:-1], text=rest)
    return Passage(id=identity, title=row.get("title") or "", text=contents)


def _keys(row: Row) -> str:
    return ", ".join(map(str, row)) or "(none)"


def checked_passages(passages: Iterable[Passage]) -> Iterator[Passage]:
    """The passages, for an index to be built of; an id that comes again soon is refused at once.

    Memory holds no more than the latest ids, so whoever builds looks for the rest in the end.

    Raises:
        ValueError: If there are no passages, two near each other have one id, or one is no `Passage`.
    """
    recent: dict[str, int] = {}
    number = -1
    for number, passage in enumerate(passages):
        if not isinstance(passage, Passage):
            raise ValueError(
                f"Item {number} of passages is {type(passage).__name__}, not a Passage. "
                "Make one with Passage(id=..., text=...), or read a file with read_passages."
            )
        if recent.setdefault(passage.id, number) != number:
            raise_duplicate(passage.id, recent[passage.id], number)
        if len(recent) >= _RECENT_IDS:
            recent.clear()
        yield passage
    if number < 0:
        raise ValueError("There are no passages to index. Check the corpus: is the file empty?")


def raise_duplicate(identity: str, first: int, second: int) -> None:
    """Refuses two passages of one id; the numbers count from 0."""
    raise ValueError(
        f"Passages {first + 1} and {second + 1} have the same id {identity!r}. Make ids unique: "
        "hits are told apart by them."
    )
