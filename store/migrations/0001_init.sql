-- Facts as they were received (append only), the trace rollup derived from them, and the control tables.
-- Large tables have no key or index: idempotency is an anti-join (see store/publish.py), which also keeps
-- this schema valid on DuckLake. Long texts are stored with zstd, which loads faster and is half the size.

CREATE TABLE trace_records (            -- what a source stated about a whole trace; every distinct version is kept
    trace_id VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    agent VARCHAR,
    agent_version VARCHAR,
    user_id VARCHAR,
    session_id VARCHAR,
    task VARCHAR,
    arm VARCHAR,
    model VARCHAR,
    model_fingerprint VARCHAR,
    decision_id VARCHAR,
    started_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    status VARCHAR,                     -- ok, error, or null when the source does not say
    input VARCHAR USING COMPRESSION zstd,
    output VARCHAR USING COMPRESSION zstd,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cost_usd DOUBLE,
    metadata VARCHAR USING COMPRESSION zstd,    -- a JSON object
    content_hash UBIGINT NOT NULL,
    batch_id BIGINT NOT NULL
);

CREATE TABLE spans (                    -- one operation inside a trace; identity is (trace_id, span_id)
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR NOT NULL,
    parent_span_id VARCHAR,
    ordinal INTEGER,                    -- order stated by the source; breaks ties in time
    kind VARCHAR NOT NULL,              -- agent llm tool retriever chain embedding guardrail evaluator other
    name VARCHAR,
    started_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    status VARCHAR,
    status_message VARCHAR,
    input VARCHAR USING COMPRESSION zstd,
    output VARCHAR USING COMPRESSION zstd,
    model VARCHAR,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cost_usd DOUBLE,
    attributes VARCHAR USING COMPRESSION zstd,  -- a JSON object: everything not mapped to a column
    links VARCHAR,                              -- a JSON array of {trace_id, span_id}
    source VARCHAR NOT NULL,
    agent VARCHAR,                      -- from here: what the span says about its trace
    agent_version VARCHAR,
    user_id VARCHAR,
    session_id VARCHAR,
    task VARCHAR,
    arm VARCHAR,
    model_fingerprint VARCHAR,
    decision_id VARCHAR,
    content_hash UBIGINT NOT NULL,
    batch_id BIGINT NOT NULL
);

CREATE TABLE signals (                  -- one piece of evidence on how good a trace was; identity is signal_id
    signal_id VARCHAR NOT NULL,
    trace_id VARCHAR,                   -- as stated; signal_links finds the trace when this is null
    span_id VARCHAR,
    session_id VARCHAR,
    user_id VARCHAR,
    kind VARCHAR NOT NULL,
    name VARCHAR,
    item VARCHAR,                       -- what was shown, clicked or bought
    value DOUBLE,
    text VARCHAR USING COMPRESSION zstd,
    position INTEGER,                   -- 1-based rank at which the item was shown
    propensity DOUBLE,                  -- probability with which the item was shown or the person was asked
    solicited BOOLEAN,
    annotator_kind VARCHAR,             -- user operator llm code
    annotator_id VARCHAR,
    occurred_at TIMESTAMPTZ,
    source VARCHAR NOT NULL,
    metadata VARCHAR USING COMPRESSION zstd,
    content_hash UBIGINT NOT NULL,
    batch_id BIGINT NOT NULL
);

-- An older version of a span or signal that a later one replaced: kept, so that nothing received is lost.
CREATE TABLE superseded_spans AS FROM spans LIMIT 0;
CREATE TABLE superseded_signals AS FROM signals LIMIT 0;

CREATE TABLE traces (                   -- derived: one row a trace, a function of trace_records, spans and trace_tasks
    trace_id VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    agent VARCHAR,
    agent_version VARCHAR,
    user_id VARCHAR,
    session_id VARCHAR,
    task VARCHAR,
    task_origin VARCHAR,                -- given, grouped, or null
    arm VARCHAR,
    model VARCHAR,
    model_fingerprint VARCHAR,
    decision_id VARCHAR,
    started_at TIMESTAMPTZ,             -- null when no source states a time
    ended_at TIMESTAMPTZ,
    seen_at TIMESTAMPTZ NOT NULL,       -- started_at, else when the first batch with it was received
    status VARCHAR NOT NULL,            -- ok error unknown
    input VARCHAR,                      -- the first 500 characters; full texts: store.traces.texts
    output VARCHAR,
    input_tokens BIGINT,
    output_tokens BIGINT,
    cost_usd DOUBLE,
    span_count INTEGER NOT NULL,
    error_count INTEGER NOT NULL,
    tool_count INTEGER NOT NULL,
    metadata VARCHAR,
    batch_id BIGINT NOT NULL
);

CREATE TABLE trace_tasks (              -- tasks found by grouping; a trace keeps the one it first got
    trace_id VARCHAR NOT NULL,
    agent VARCHAR,
    task VARCHAR NOT NULL,
    similarity DOUBLE NOT NULL,
    assigned_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE task_groups (              -- the representative input of each grouped task: what makes grouping stable
    task VARCHAR PRIMARY KEY,
    agent VARCHAR NOT NULL,
    representative VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE signal_links (             -- derived: the trace of a signal that did not name one
    signal_id VARCHAR NOT NULL,
    trace_id VARCHAR NOT NULL,
    linked_by VARCHAR NOT NULL          -- session or user
);

CREATE TABLE ingest_batches (
    batch_id BIGINT PRIMARY KEY,
    source VARCHAR NOT NULL,
    file_name VARCHAR NOT NULL,
    format VARCHAR,
    state VARCHAR NOT NULL CHECK (state IN ('staging', 'publishing', 'done', 'failed', 'cancelled')),
    bytes_total BIGINT,
    bytes_done BIGINT NOT NULL DEFAULT 0,
    received BIGINT NOT NULL DEFAULT 0,     -- records; received = accepted + duplicate + rejected
    accepted BIGINT NOT NULL DEFAULT 0,
    duplicate BIGINT NOT NULL DEFAULT 0,
    rejected BIGINT NOT NULL DEFAULT 0,
    traces BIGINT NOT NULL DEFAULT 0,       -- rows inserted: traces new to the store, spans, signals
    spans BIGINT NOT NULL DEFAULT 0,
    signals BIGINT NOT NULL DEFAULT 0,
    slices_done INTEGER NOT NULL DEFAULT 0,
    staging_dir VARCHAR,
    mapping VARCHAR,                        -- JSON
    fidelity VARCHAR,                       -- JSON: what was kept, dropped, guessed
    error VARCHAR,
    received_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ
);

CREATE TABLE ingest_rejects (
    batch_id BIGINT NOT NULL,
    record_no BIGINT NOT NULL,          -- 1-based position of the record in the file
    line BIGINT,                        -- 1-based physical line where it starts
    column_name VARCHAR,
    reason VARCHAR NOT NULL,
    raw VARCHAR USING COMPRESSION zstd,
    raw_truncated BOOLEAN NOT NULL DEFAULT false
);

CREATE TABLE sources (                  -- a saved column mapping, reused for files with the same columns
    source VARCHAR PRIMARY KEY,
    mapping VARCHAR NOT NULL,
    columns VARCHAR NOT NULL,           -- JSON array of the column names it was made for
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE job_runs (
    run_id BIGINT PRIMARY KEY,
    job VARCHAR NOT NULL,
    cause VARCHAR NOT NULL,             -- schedule, manual, catch-up, retry
    attempt INTEGER NOT NULL,
    status VARCHAR NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'interrupted')),
    started_at TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    progress DOUBLE,                    -- 0 to 1
    message VARCHAR,
    rows BIGINT,                        -- rows written
    watermark BIGINT,                   -- facts held when the run began: what it has covered
    error VARCHAR,
    traceback VARCHAR,
    code_version VARCHAR NOT NULL
);

CREATE TABLE store_meta (key VARCHAR PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO store_meta VALUES ('data_version', 0);

CREATE TABLE reward_models (
    reward_model_id BIGINT PRIMARY KEY,
    method VARCHAR NOT NULL,
    fitted_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    traces BIGINT NOT NULL,
    signals BIGINT NOT NULL,
    parameters VARCHAR NOT NULL,        -- JSON
    code_version VARCHAR NOT NULL,
    active BOOLEAN NOT NULL
);

CREATE TABLE rewards (
    trace_id VARCHAR NOT NULL,
    reward_model_id BIGINT NOT NULL,
    mean DOUBLE NOT NULL,
    sd DOUBLE NOT NULL,
    signals INTEGER NOT NULL            -- how many signals of this very trace went in
);

CREATE TABLE lessons (
    lesson_id VARCHAR PRIMARY KEY,
    agent VARCHAR NOT NULL,
    task VARCHAR,
    state VARCHAR NOT NULL CHECK (state IN
        ('proposed', 'approved', 'canary', 'active', 'retired', 'rejected', 'superseded', 'graduated')),
    version INTEGER NOT NULL,
    origin VARCHAR NOT NULL,            -- contrast, operator, agent
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE lesson_versions (
    lesson_id VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    title VARCHAR NOT NULL,
    when_text VARCHAR NOT NULL,
    when_not VARCHAR,
    do_text VARCHAR NOT NULL,
    why VARCHAR NOT NULL,
    author VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (lesson_id, version)
);

CREATE TABLE lesson_evidence (
    lesson_id VARCHAR NOT NULL,
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR,
    role VARCHAR NOT NULL,              -- good, bad
    reward DOUBLE NOT NULL,
    reward_sd DOUBLE NOT NULL,
    quote VARCHAR
);

CREATE TABLE lesson_reviews (
    lesson_id VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    action VARCHAR NOT NULL,            -- approve, reject, edit, retire, undo
    operator VARCHAR NOT NULL,
    reason VARCHAR,
    reviewed_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE playbooks (                -- versions are never overwritten
    agent VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    body VARCHAR NOT NULL,
    lesson_ids VARCHAR NOT NULL,        -- JSON array
    tokens INTEGER NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    cause VARCHAR NOT NULL,
    PRIMARY KEY (agent, version)
);

CREATE TABLE exploration_rates (        -- recommendations and what an operator did with them
    agent VARCHAR NOT NULL,
    recommended_at TIMESTAMPTZ NOT NULL,
    rate DOUBLE NOT NULL,
    lower DOUBLE NOT NULL,
    upper DOUBLE NOT NULL,
    decisions BIGINT NOT NULL,          -- n behind the estimate
    reason VARCHAR NOT NULL,
    arms VARCHAR NOT NULL,              -- JSON: posterior of each arm
    state VARCHAR NOT NULL CHECK (state IN ('recommended', 'applied', 'declined', 'superseded')),
    decided_by VARCHAR,
    decided_at TIMESTAMPTZ
);

CREATE TABLE drift_findings (
    run_id BIGINT NOT NULL,
    user_id VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    events INTEGER NOT NULL,
    statistic DOUBLE NOT NULL,
    p_value DOUBLE NOT NULL,
    flagged BOOLEAN NOT NULL,           -- after Benjamini-Hochberg over users
    changed_at TIMESTAMPTZ,
    before_mean DOUBLE,
    before_n INTEGER,
    after_mean DOUBLE,
    after_n INTEGER,
    found_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE audit_log (                -- append only; each row carries the hash of the one before
    sequence BIGINT PRIMARY KEY,
    occurred_at TIMESTAMPTZ NOT NULL,
    actor VARCHAR NOT NULL,
    action VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    detail VARCHAR NOT NULL,            -- JSON
    previous_hash VARCHAR NOT NULL,
    hash VARCHAR NOT NULL
);
