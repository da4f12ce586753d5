"""The store: one DuckDB file, one writer, many readers. All SQL on it lives here, one function per question."""
