"""The fidelity report of a batch: what was kept, where unknown columns went, what was guessed, what is missing."""

import json
from datetime import datetime
from typing import Any

from pipelines.ingest.recipe import Recipe

# A report names this many columns; records may have any number of keys.
_MOST_EXTRAS = 1_000
_LONGEST_NAME = 200


class Fidelity:
    """Counts values per column while a file is staged; continues from the report of a killed load."""

    def __init__(
        self, recipe: Recipe, earlier: dict[str, Any] | None = None, repair: dict[str, Any] | None = None
    ) -> None:
        earlier = earlier or {}
        self._repair = repair or {}
        self._recipe = recipe
        self._rows: dict[str, int] = dict(earlier.get("rows", {}))
        self._kept: dict[str, dict[str, int]] = {kind: dict(kept) for kind, kept in earlier.get("kept", {}).items()}
        self._extras: dict[str, str] = dict(earlier.get("extras", {}))
        self._more_extras: bool = earlier.get("more_extras", False)
        self._first: str | None = earlier.get("first_time")
        self._last: str | None = earlier.get("last_time")
        self._untimed: int = earlier.get("without_time", 0)

    def count(self, kind: str, rows: int, values: dict[str, int]) -> None:
        """Add staged rows of one kind: how many, and how many values each of their columns has."""
        self._rows[kind] = self._rows.get(kind, 0) + rows
        kept = self._kept.setdefault(kind, {})
        for column, number in values.items():
            if number:
                kept[column] = kept.get(column, 0) + number

    def times(self, first: datetime | None, last: datetime | None, missing: int) -> None:
        """Add the time range of staged rows and how many of them have no time."""
        if first is not None:
            self._first = min(filter(None, (self._first, first.isoformat())))
        if last is not None:
            self._last = max(filter(None, (self._last, last.isoformat())))
        self._untimed += missing

    def extra(self, column: str, kept_in: str) -> None:
        """Note a column of the file that has no column of its own and went into a JSON object."""
        name = column if len(column) <= _LONGEST_NAME else column[:_LONGEST_NAME] + "…"
        if name not in self._extras and len(self._extras) >= _MOST_EXTRAS:
            self._more_extras = True
            return
        self._extras[name] = kept_in

    def as_dict(self) -> dict[str, Any]:
        """The report, as it is stored with the batch."""
        return {
            "format": self._recipe.label,
            "why": self._recipe.why,
            "rows": self._rows,
            "kept": self._kept,
            "extras": self._extras,
            "more_extras": self._more_extras,
            "guessed": self._recipe.guessed,
            "first_time": self._first,
            "last_time": self._last,
            "without_time": self._untimed,
            "repair": self._repair,
        }

    @staticmethod
    def parse(text: str | None) -> dict[str, Any]:
        """A stored report; empty when the batch has none yet."""
        return dict(json.loads(text)) if text else {}
