"""A column of a file as a sample shows it: its name as names are compared, and its values that are not empty."""

import json
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Cells
from typing import Final

__all__ = ["MOST", "SampledColumn", "plain_name"]

MOST: Final = 0.8  # of the sampled values must be readable: some rows of a file may be bad


class SampledColumn:
    """One column of the file: its name in the forms that are compared, and the sampled values that are not empty."""

    def __init__(self, name: str, sample: Sequence[Cells[str, object]]) -> None:
        self.name = name
        self.plain = plain_name(name)
        cells = (_text(row.get(name)) for row in sample)
        self.values = [cell for cell in cells if cell]
        self.words = [value.lower() for value in self.values]
        self.numbers = [number for value in self.values if (number := _number(value)) is not None]

    def share(self, test: Callable[[str], object]) -> float:
        """The share of the values that pass the test."""
        return sum(1 for value in self.values if test(value)) / len(self.values) if self.values else 0.0

    def mostly(self, test: Callable[[str], object]) -> bool:
        """Whether most values pass the test."""
        return self.share(test) >= MOST

    @property
    def numeric(self) -> bool:
        """Whether most values are numbers."""
        return self.numbers_are(lambda number: True)

    def numbers_are(self, test: Callable[[float], bool], most: float = MOST) -> bool:
        """Whether most values are numbers that pass the test."""
        return bool(self.values) and sum(map(test, self.numbers)) >= most * len(self.values)

    @property
    def distinct(self) -> bool:
        """Whether no value repeats."""
        return len(set(self.values)) == len(self.values)

    def mostly_in(self, *vocabularies: Iterable[str]) -> bool:
        """Whether most values, in lower case, are words of these vocabularies."""
        known = {word for words in vocabularies for word in words}
        return bool(self.words) and sum(word in known for word in self.words) >= MOST * len(self.words)


def plain_name(name: str) -> str:
    """A name without case and punctuation, the form in which names are compared."""
    return "".join(character for character in name.lower() if character.isalnum())


def _text(cell: object) -> str:
    """A sampled value as the text that a cell of CSV would hold, without blanks and quotes around it."""
    if cell is None:
        return ""
    return (json.dumps(cell, default=str) if isinstance(cell, (dict, list)) else str(cell)).strip().strip('"')


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None
