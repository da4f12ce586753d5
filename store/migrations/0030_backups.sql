-- Backups: when and where they are made, how many are kept, and what is known of each that was made.

CREATE TABLE backup_settings (          -- at most one row: without one nothing is made by itself
    enabled BOOLEAN NOT NULL,
    every_hours INTEGER NOT NULL,       -- 24: once a day at at_hour; less: so long after the latest
    at_hour INTEGER NOT NULL,           -- of the day, UTC
    folder VARCHAR,                     -- null: beside the database
    keep_daily INTEGER NOT NULL,        -- the newest of each of so many days
    keep_weekly INTEGER NOT NULL,       -- the newest of each of so many weeks
    verify BOOLEAN NOT NULL,
    set_by VARCHAR NOT NULL,
    set_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE backups (                  -- every backup that the job made
    backup_id BIGINT NOT NULL,
    path VARCHAR NOT NULL,
    made_at TIMESTAMPTZ NOT NULL,       -- what was committed by then is in it
    bytes BIGINT NOT NULL,
    table_rows BIGINT NOT NULL,         -- over all tables
    seconds DOUBLE NOT NULL,
    verified_at TIMESTAMPTZ,            -- when it was restored and found sound
    verify_seconds DOUBLE,
    audit_rows BIGINT,                  -- of its audit log, whose chain holds up to newest_hash
    newest_hash VARCHAR,
    problem VARCHAR,                    -- why it could not be verified
    removed_at TIMESTAMPTZ,             -- by the rotation, by an operator, or found missing
    removed_by VARCHAR
);
