"""What JSON records hold beside the keys that a mapping reads, packed into a few columns however many keys there are.

Columns of a table are few and known beforehand; keys of JSON records can be any and differ from record to record, so
here they are rows (record, key, value) that are put together again by record. What becomes of a record depends on that
record alone, never on those beside it.
"""

import json
from dataclasses import dataclass

import duckdb
import pyarrow as pa

ENTRIES, KEYS, DIGEST = "packed_entries", "packed_keys", "packed_digest"
COLUMNS = (ENTRIES, KEYS, DIGEST)


@dataclass(frozen=True)
class Packed:
    """A table with the columns `COLUMNS`, one row a record, and the names of all keys packed, in order.

    `packed_entries` are the members as JSON text joined by commas, `packed_keys` their names, both null where there are
    none; `packed_digest` is the MD5 over all members of the record, null when it was not asked for.
    """

    table: pa.Table
    names: list[str]


def pack(connection: duckdb.DuckDBPyConnection, texts: pa.Array, mapped: set[str], *, digest: bool) -> Packed:
    """Pack the members that are not null and whose keys are not `mapped`; of a key given twice the first counts.

    Args: `texts` are JSON objects; with `digest` one over all members, also the mapped ones, is computed: the same that
    `select` makes of the cells of a table with equal names and texts.
    """
    connection.register("packing", pa.table({"place": pa.array(range(len(texts)), pa.int64()), "json": texts}))
    try:
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE members AS
            SELECT place, key, key IN (SELECT unnest($mapped)) AS mapped, first(value ORDER BY id) AS value
            FROM packing, json_each(packing.json)
            {"" if digest else "WHERE key NOT IN (SELECT unnest($mapped))"}
            GROUP BY place, key HAVING first(type ORDER BY id) <> 'NULL'""",
            {"mapped": sorted(mapped)},
        )
    finally:
        connection.unregister("packing")
    found = [(str(name), bool(read)) for name, read in connection.execute(_NAMES).fetchall()]
    names = [name for name, _ in found]
    quoted = [json.dumps(name, ensure_ascii=False) + ":" for name in names]
    heads = pa.table([names, quoted, [json.dumps(name) for name in names]], schema=_HEADS)
    connection.register("heads", heads)
    try:
        table = connection.execute(_PACKED.format(digest=_DIGEST if digest else "NULL::VARCHAR"), [len(texts)])
        return Packed(table.to_arrow_table(), [name for name, read in found if not read])
    finally:
        connection.unregister("heads")
        connection.execute("DROP TABLE members")


_HEADS = pa.schema([("key", pa.string()), ("quoted", pa.string()), ("head", pa.string())])

_NAMES = "SELECT key, bool_and(mapped) FROM members GROUP BY key ORDER BY min(place), key"

_DIGEST = """md5(coalesce(
    string_agg(head || strlen(text) || ':' || text, '' ORDER BY key) FILTER (text IS NOT NULL), ''))"""

_PACKED = f"""
WITH named AS (
    SELECT place, key, mapped, quoted, head, value, nullif(value ->> '$', '') AS text
    FROM range($1) AS records(place) LEFT JOIN members USING (place) LEFT JOIN heads USING (key)
)
SELECT
    string_agg(quoted || CAST(value AS VARCHAR), ',' ORDER BY key) FILTER (NOT mapped) AS {ENTRIES},
    list(key ORDER BY key) FILTER (NOT mapped) AS {KEYS},
    {{digest}} AS {DIGEST}
FROM named GROUP BY place ORDER BY place"""
