-- What the pages of the learning loop need beside the first tables: posteriors of tasks, why a lesson was proposed,
-- what a review changed, and what a drift run looked at.

CREATE TABLE reward_cells (             -- posterior of the mean reward of each (agent, task), by reward model
    reward_model_id BIGINT NOT NULL,
    agent VARCHAR,
    task VARCHAR,                       -- null: the agent's traces without a task
    traces BIGINT NOT NULL,
    observed BIGINT NOT NULL,           -- traces with at least one signal
    raw_mean DOUBLE,                    -- before shrinkage; null without signals
    mean DOUBLE NOT NULL,
    sd DOUBLE NOT NULL
);

ALTER TABLE lessons ADD COLUMN tested BOOLEAN;      -- an effect survived false-discovery control; else a hypothesis
ALTER TABLE lessons ADD COLUMN value DOUBLE;        -- reward gap of its evidence x traces it applies to, when proposed

ALTER TABLE lesson_reviews ADD COLUMN previous_state VARCHAR;
ALTER TABLE lesson_reviews ADD COLUMN sequence BIGINT;  -- of the audit row of the same transaction: the order of reviews

ALTER TABLE drift_findings ADD COLUMN q_value DOUBLE;   -- p-value after Benjamini-Hochberg over the run's users
ALTER TABLE drift_findings ADD COLUMN events_total INTEGER;  -- held of this user; `events` of them were scanned

CREATE TABLE drift_runs (
    run_id BIGINT PRIMARY KEY,
    found_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    false_discovery_rate DOUBLE NOT NULL,
    users BIGINT NOT NULL,              -- with at least one event; users = scanned + too_few
    scanned BIGINT NOT NULL,
    flagged BIGINT NOT NULL,
    too_few BIGINT NOT NULL,            -- users without enough events to be scanned
    min_events BIGINT NOT NULL,         -- how many are enough
    missing_median DOUBLE               -- how many more events half of the others need; null without others
);
