-- Incidents: many findings with one cause; interventions that are known change points; responses to findings.

CREATE TABLE interventions (            -- noted by operators; those the store knows by itself are derived from their tables
    intervention_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,              -- campaign, version, model, lesson, arm, guardrail, source, other
    agent VARCHAR,                      -- null: every agent
    segment VARCHAR,                    -- null: everybody
    happened_at TIMESTAMPTZ NOT NULL,
    title VARCHAR NOT NULL,
    noted_by VARCHAR NOT NULL,
    noted_at TIMESTAMPTZ NOT NULL,
    withdrawn_at TIMESTAMPTZ
);

CREATE TABLE incident_runs (            -- one grouping of what a run of `drift` found
    run_id BIGINT NOT NULL,
    drift_run_id BIGINT NOT NULL,
    found_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    parameters VARCHAR NOT NULL,        -- JSON
    flagged BIGINT NOT NULL,            -- findings = explained + grouped + lone
    explained BIGINT NOT NULL,
    grouped BIGINT NOT NULL,
    lone BIGINT NOT NULL,
    incidents BIGINT NOT NULL,          -- seen by this run
    responses BIGINT NOT NULL           -- applied by rules
);

CREATE TABLE incidents (                -- without key: a list column that changes is a row deleted and inserted
    incident_id VARCHAR NOT NULL,
    run_id BIGINT NOT NULL,             -- the newest run (incident_runs) that saw it: its findings and metrics
    agent VARCHAR,                      -- null: several, or not known
    segment VARCHAR,                    -- null: everybody
    title VARCHAR NOT NULL,
    cause VARCHAR NOT NULL,             -- model, version, arm, tool, lesson, source, seasonality, unknown
    cause_detail VARCHAR NOT NULL,      -- JSON: what is suspected and on what evidence, with n
    metrics VARCHAR[] NOT NULL,         -- in the order in which they moved
    changed_at TIMESTAMPTZ NOT NULL,    -- of the earliest metric
    changed_from TIMESTAMPTZ NOT NULL,
    changed_to TIMESTAMPTZ NOT NULL,
    users BIGINT NOT NULL,              -- flagged
    scanned BIGINT NOT NULL,            -- of so many
    state VARCHAR NOT NULL CHECK (state IN ('open', 'acknowledged', 'resolved')),
    reopened INTEGER NOT NULL,          -- how often
    opened_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,  -- when the newest run still saw it
    resolved_at TIMESTAMPTZ
);

CREATE TABLE incident_findings (        -- of the run of `drift` that `incidents.run_id` grouped
    incident_id VARCHAR NOT NULL,
    run_id BIGINT NOT NULL,
    level VARCHAR NOT NULL,             -- user, segment, population
    user_id VARCHAR,
    segment VARCHAR,
    agent VARCHAR,
    metric VARCHAR NOT NULL,
    changed_at TIMESTAMPTZ,
    before_mean DOUBLE,
    before_n BIGINT,
    after_mean DOUBLE,
    after_n BIGINT,
    effect DOUBLE,
    effect_sd DOUBLE,
    q_value DOUBLE
);

CREATE TABLE incident_metrics (         -- what moved, the first one first
    incident_id VARCHAR NOT NULL,
    run_id BIGINT NOT NULL,
    place INTEGER NOT NULL,
    metric VARCHAR NOT NULL,
    direction VARCHAR NOT NULL,         -- up, down
    moved_at TIMESTAMPTZ NOT NULL,      -- median over its findings
    moved_from TIMESTAMPTZ NOT NULL,    -- quartiles over users; of a single finding its set
    moved_to TIMESTAMPTZ NOT NULL,
    users BIGINT NOT NULL,
    before_mean DOUBLE,                 -- over the findings, by their n
    before_n BIGINT NOT NULL,
    after_mean DOUBLE,
    after_n BIGINT NOT NULL,
    effect DOUBLE,                      -- median of the shrunk effects
    effect_sd DOUBLE                    -- of that median
);

CREATE TABLE incident_events (          -- what became of it; never changed
    incident_id VARCHAR NOT NULL,
    sequence BIGINT NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    kind VARCHAR NOT NULL,              -- opened, acknowledged, resolved, reopened, grew, cause, note, response
    actor VARCHAR NOT NULL,
    text VARCHAR NOT NULL
);

CREATE TABLE drift_rules (              -- by which responses are applied without asking, as an operator ordered
    rule_id VARCHAR NOT NULL,
    level VARCHAR NOT NULL,             -- user: lone findings; incident
    metric VARCHAR,                     -- null: any
    agent VARCHAR,                      -- null: any
    segment VARCHAR,                    -- null: any
    least_effect DOUBLE NOT NULL,       -- in the metric's unit, whichever way it moved
    only_worse BOOLEAN NOT NULL,        -- not when the metric moved for the better
    action VARCHAR NOT NULL,
    parameters VARCHAR NOT NULL,        -- JSON, as of a response
    daily_limit INTEGER NOT NULL,       -- responses in 24 hours
    state VARCHAR NOT NULL CHECK (state IN ('on', 'off')),
    set_by VARCHAR NOT NULL,
    set_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE drift_responses (          -- what was done about findings
    response_id BIGINT NOT NULL,
    action VARCHAR NOT NULL CHECK (action IN ('explore', 'restart preferences', 'pause lesson', 'ask')),
    agent VARCHAR,
    user_id VARCHAR,
    segment VARCHAR,
    parameters VARCHAR NOT NULL,        -- JSON: rate, lesson_id
    incident_id VARCHAR,                -- what it answers
    metric VARCHAR,
    reason VARCHAR NOT NULL,
    preview VARCHAR NOT NULL,           -- JSON: what it was said to change
    applied_by VARCHAR NOT NULL,        -- an operator, or trimtab
    ordered_by VARCHAR NOT NULL,        -- the operator; of a rule the one who set it
    rule_id VARCHAR,
    applied_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ,             -- null: until it is taken back
    ended_at TIMESTAMPTZ,               -- taken back, or expired
    ended_by VARCHAR
);
