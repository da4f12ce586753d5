"""Publications: which commit brought which facts, so that a small insert need not search a large store.

Every publish takes the next number and writes it into the rows it inserts. As rows are appended in that order, DuckDB's
zone maps find the rows of a publication without an index. `trace_publications` and `signal_publications` hold, by a
64-bit hash, in which publications a trace or a signal occurs; a hash that two ids share costs a wider search only.
"""

from dataclasses import dataclass

import duckdb

# More publications than this are looked up by a join: a statement that lists them all would be slow to plan.
_LISTED = 2_000


@dataclass(frozen=True)
class Places:
    """The publications in which what is asked for may be; `numbers` None when any will do."""

    numbers: tuple[int, ...] | None

    @property
    def nowhere(self) -> bool:
        """Whether the store holds nothing of it."""
        return self.numbers is not None and not self.numbers

    @property
    def within(self) -> str:
        """A condition on the column `publication` that lets a scan skip all other rows."""
        if self.numbers is None or len(self.numbers) > _LISTED:
            return "true"
        return f"publication IN ({', '.join(map(str, self.numbers))})" if self.numbers else "false"

    def with_also(self, number: int) -> "Places":
        """These places and one more."""
        return self if self.numbers is None else Places((*self.numbers, number))

    def also(self, others: "Places") -> "Places":
        """These places and others."""
        if self.numbers is None or others.numbers is None:
            return ANYWHERE
        return Places(tuple(sorted({*self.numbers, *others.numbers})))


ANYWHERE = Places(None)


def begin(connection: duckdb.DuckDBPyConnection) -> int:
    """The number of the publication that begins now. Call inside its transaction."""
    # With RETURNING the row and its key would be deleted and inserted; when such a commit fails on a full disk,
    # taking the key back can end the whole process (DuckDB 1.5.5).
    connection.execute("UPDATE store_meta SET value = value + 1 WHERE key = 'publication'")
    rows = connection.execute("SELECT value FROM store_meta WHERE key = 'publication'").fetchall()
    return int(rows[0][0])


def places(connection: duckdb.DuckDBPyConnection, index: str, keys: str) -> Places:
    """Where the facts of some keys are.

    Args: `index` is trace_publications or signal_publications; `keys` a query that yields hashes as column `key`,
    as often as it likes.
    """
    found = connection.execute(f"SELECT DISTINCT publication FROM {index} SEMI JOIN ({keys}) USING (key)").fetchall()
    return Places(tuple(sorted(int(number) for (number,) in found)))


def note(connection: duckdb.DuckDBPyConnection, index: str, keys: str, publication: int) -> None:
    """Say that the facts of these keys (see `places`) occur in this publication; one given twice is noted twice."""
    connection.execute(f"INSERT INTO {index} SELECT key, {publication:d} FROM ({keys})")
