-- Silent model change: answers of each model that were looked at, its daily figures, changes, anchors, and probes.

CREATE TABLE model_answers (            -- a sample of each model's answers a day and agent, with what is measured of each
    day DATE NOT NULL,
    model VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,             -- '' where none is stated
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR NOT NULL,           -- '' for a trace without steps of a model
    answered_at TIMESTAMPTZ NOT NULL,
    fingerprint VARCHAR,
    language VARCHAR NOT NULL,          -- of what was asked, guessed; '' where it cannot be
    opening VARCHAR,                    -- the first two words, null without words
    tokens_per_character DOUBLE,        -- from here null where it cannot be measured
    length DOUBLE,                      -- characters
    refusal DOUBLE,                     -- 1 or 0
    seconds DOUBLE,
    sentence_length DOUBLE,             -- words
    list_share DOUBLE,                  -- of lines that are items of a list
    punctuation DOUBLE                  -- marks for 100 characters
);

CREATE TABLE model_days (               -- up to where a day's answers have been looked at
    day DATE NOT NULL,
    model VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    answers BIGINT NOT NULL,            -- held, of which model_answers has a sample
    publication BIGINT NOT NULL         -- the newest one that brought any of them
);

CREATE TABLE model_watch_runs (
    run_id BIGINT NOT NULL,
    found_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    models BIGINT NOT NULL,
    scanned BIGINT NOT NULL,            -- models times metrics with enough data
    flagged BIGINT NOT NULL,
    parameters VARCHAR NOT NULL         -- JSON
);

CREATE TABLE model_figures (            -- of the newest run: means of a model's answers a day
    run_id BIGINT NOT NULL,
    day DATE NOT NULL,
    model VARCHAR NOT NULL,
    agent VARCHAR,                      -- null: all agents
    metric VARCHAR NOT NULL,
    n BIGINT NOT NULL,
    mean DOUBLE NOT NULL,               -- on the metric's own scale
    sd DOUBLE NOT NULL,                 -- between answers
    adjusted DOUBLE,                    -- of all agents: within tasks and languages, minus that of the other models
    adjusted_sd DOUBLE
);

CREATE TABLE model_changes (            -- what the newest passive run and probe run found of each model, and flagged changes before
    change_id BIGINT NOT NULL,
    run_id BIGINT NOT NULL,             -- of model_watch_runs, or the probe run of kind active
    model VARCHAR NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('passive', 'active')),
    metric VARCHAR NOT NULL,
    status VARCHAR NOT NULL,            -- change, no change seen, not enough data
    changed_at TIMESTAMPTZ,             -- the first answers after the likeliest change
    before DOUBLE,
    after DOUBLE,
    before_n BIGINT NOT NULL,
    after_n BIGINT NOT NULL,
    n BIGINT NOT NULL,
    effect DOUBLE,                      -- after minus before, adjusted where it can be
    effect_lower DOUBLE,                -- 95 % interval
    effect_upper DOUBLE,
    statistic DOUBLE,
    p_value DOUBLE,                     -- valid for all looks so far
    q_value DOUBLE,                     -- of passive metrics, over models and metrics
    e_value DOUBLE,                     -- of metrics taken together
    flagged BOOLEAN NOT NULL,
    detail VARCHAR NOT NULL,            -- JSON
    found_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE model_anchors (            -- known changes: what came before is compared with nothing after
    model VARCHAR NOT NULL,
    anchored_at TIMESTAMPTZ NOT NULL,
    reason VARCHAR NOT NULL,
    noted_by VARCHAR NOT NULL,
    noted_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE model_probe_settings (     -- the newest row counts
    settings_no BIGINT NOT NULL,
    switched_on BOOLEAN NOT NULL,
    every_hours INTEGER NOT NULL,
    samples INTEGER NOT NULL,           -- of each prompt and run
    baseline_samples INTEGER NOT NULL,  -- of each prompt in the first run
    daily_usd DOUBLE NOT NULL,          -- the most that probes may cost in one UTC day
    put_by VARCHAR NOT NULL,
    put_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE model_probes (             -- prompts; never changed, only retired
    probe_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('text', 'logprob')),
    prompt VARCHAR NOT NULL,
    output_tokens INTEGER NOT NULL,
    put_by VARCHAR NOT NULL,
    put_at TIMESTAMPTZ NOT NULL,
    retired_at TIMESTAMPTZ
);

CREATE TABLE model_probe_runs (
    run_no BIGINT NOT NULL,
    model VARCHAR NOT NULL,             -- as asked for
    address VARCHAR NOT NULL,
    api VARCHAR NOT NULL,
    state VARCHAR NOT NULL CHECK (state IN ('asking', 'compared', 'stopped')),
    baseline BOOLEAN NOT NULL,          -- the first one since the anchor: what later ones are compared with
    plan VARCHAR NOT NULL,              -- JSON: probe_id, samples
    planned INTEGER NOT NULL,           -- samples
    likely_usd DOUBLE NOT NULL,         -- estimated before anything was sent
    most_usd DOUBLE NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    message VARCHAR NOT NULL,           -- for people
    results VARCHAR NOT NULL            -- JSON: of each test its statistic, p-values, n; {} before it is compared
);

CREATE TABLE model_probe_samples (      -- one answer to one prompt
    run_no BIGINT NOT NULL,
    probe_id VARCHAR NOT NULL,
    sample_no INTEGER NOT NULL,
    call_id BIGINT NOT NULL,            -- llm_calls: what it cost
    answer VARCHAR USING COMPRESSION zstd,
    log_probabilities VARCHAR,          -- JSON: of the likeliest first tokens; null where the server gives none
    fingerprint VARCHAR,
    served_by VARCHAR,                  -- the model as the server names it
    answered_at TIMESTAMPTZ NOT NULL
);
