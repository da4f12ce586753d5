"""The schema of a store as one script."""

import duckdb


def whole_schema(connection: duckdb.DuckDBPyConnection) -> str:
    """Statements that make the tables of a store that has just been migrated, and the rows that are in them."""
    tables = connection.execute(
        "SELECT table_name, sql FROM duckdb_tables() WHERE database_name = current_database() ORDER BY table_oid"
    ).fetchall()
    indexes = connection.execute(
        "SELECT sql FROM duckdb_indexes() WHERE database_name = current_database() AND sql IS NOT NULL"
    ).fetchall()
    made = [str(sql).rstrip(";") for _, sql in tables] + [str(sql).rstrip(";") for (sql,) in indexes]
    for name, _ in tables:
        if name == "schema_migrations":
            continue
        for row in connection.execute(f"FROM {name}").fetchall():
            values = ", ".join("NULL" if value is None else "'" + str(value).replace("'", "''") + "'" for value in row)
            made.append(f"INSERT INTO {name} VALUES ({values})")
    return ";\n".join(made)
