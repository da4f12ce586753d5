-- Lessons that are taught to a model: exports, fine-tuning jobs and the comparison without the lesson.

CREATE TABLE graduation_exports (       -- training data made of one agent's traces, once
    export_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    lessons VARCHAR NOT NULL,           -- JSON array of {lesson_id, version, title}
    data_version BIGINT NOT NULL,
    reward_model_id BIGINT,
    code_version VARCHAR NOT NULL,
    manifest VARCHAR NOT NULL,          -- JSON: settings, counts, what was left out and why, redactions, files
    created_by VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE graduation_files (
    export_id BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    method VARCHAR NOT NULL CHECK (method IN ('supervised', 'dpo')),
    split VARCHAR NOT NULL CHECK (split IN ('train', 'validation')),
    lines INTEGER NOT NULL,
    tokens BIGINT NOT NULL,             -- estimated
    sha256 VARCHAR NOT NULL,
    content VARCHAR USING COMPRESSION zstd
);

CREATE TABLE graduation_sources (       -- every candidate of an export once for each method
    export_id BIGINT NOT NULL,
    method VARCHAR NOT NULL,
    trace_id VARCHAR NOT NULL,
    other_id VARCHAR,                   -- dpo: the trace whose answer is preferred
    user_id VARCHAR,
    task VARCHAR,
    split VARCHAR,                      -- null: left out
    reason VARCHAR                      -- why it was left out
);

CREATE TABLE fine_tunings (
    tuning_id BIGINT NOT NULL,
    export_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    method VARCHAR NOT NULL CHECK (method IN ('supervised', 'dpo')),
    model VARCHAR NOT NULL,             -- that is trained further
    epochs INTEGER NOT NULL,
    tuning_key VARCHAR NOT NULL,        -- random; names the files and marks the job on the server, by which it is found again
    tokens BIGINT NOT NULL,             -- estimated, over all epochs
    usd_per_million DOUBLE NOT NULL,    -- trained tokens
    usd DOUBLE NOT NULL,                -- estimated, then as trained
    state VARCHAR NOT NULL CHECK (state IN (
        'proposed', 'declined', 'approved', 'uploading', 'uploaded', 'creating', 'running', 'succeeded', 'failed',
        'cancelled')),
    server_state VARCHAR,
    address VARCHAR,                    -- of the server, once approved
    call_id BIGINT,                     -- what it may cost (llm_calls)
    training_file_id VARCHAR,
    validation_file_id VARCHAR,
    server_id VARCHAR,
    tuned_model VARCHAR,
    trained_tokens BIGINT,
    message VARCHAR,                    -- what is wrong with it, or how it ended
    proposed_by VARCHAR NOT NULL,
    proposed_at TIMESTAMPTZ NOT NULL,
    decided_by VARCHAR,
    decided_at TIMESTAMPTZ,
    stepped_at TIMESTAMPTZ NOT NULL,    -- when the state was last changed
    looked_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ
);

CREATE TABLE graduation_trials (        -- does a model that was trained still need the lesson?
    trial_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    lesson_id VARCHAR NOT NULL,
    version INTEGER NOT NULL,           -- of the lesson, which is withheld at `holdout`
    basis VARCHAR NOT NULL CHECK (basis IN ('model', 'arm')),
    name VARCHAR NOT NULL,              -- of the model or arm that was trained
    tuning_id BIGINT,
    holdout DOUBLE NOT NULL,
    holdout_before DOUBLE,              -- null: by its state
    margin DOUBLE NOT NULL,             -- in reward points: what is as good as no difference
    state VARCHAR NOT NULL CHECK (state IN ('running', 'absorbed', 'not absorbed', 'harms', 'graduated', 'ended')),
    served BIGINT,
    withheld BIGINT,
    effect DOUBLE,                      -- served minus withheld, with the trained model only
    lower DOUBLE,                       -- anytime-valid, level .95
    upper DOUBLE,
    message VARCHAR NOT NULL,
    started_by VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    looked_at TIMESTAMPTZ,
    ended_by VARCHAR,
    ended_at TIMESTAMPTZ
);
