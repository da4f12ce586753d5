-- Who had a file loaded, so that the audit log can name them also when another process ends the load.

ALTER TABLE ingest_batches ADD COLUMN loaded_by VARCHAR;    -- null: loads of which no row is written, and live ones
