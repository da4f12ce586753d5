-- Why traces went badly, how much each source of evidence tells, and whether an arm improves what it is measured by at
-- the expense of what is wanted. Every derived row names its run; the large tables have no key.

CREATE TABLE failure_runs (
    run_id BIGINT PRIMARY KEY,
    found_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    rules_version INTEGER NOT NULL,     -- of the rules and their patterns
    reward_model_id BIGINT,             -- whose rewards told bad from good; null without one
    traces BIGINT NOT NULL,
    bad BIGINT NOT NULL,                -- each has one label of rank 1
    unknown BIGINT NOT NULL,            -- bad traces in which no rule found a cause
    explored BIGINT NOT NULL,           -- bad traces whose first label is deliberate exploration: no failure of the agent
    parameters VARCHAR NOT NULL         -- JSON: thresholds by agent, agreement with people and model, notes
);

CREATE TABLE failure_labels (           -- causes of one bad trace, of the newest run
    run_id BIGINT NOT NULL,
    trace_id VARCHAR NOT NULL,
    rank INTEGER NOT NULL,              -- 1 is the label, others are further candidates
    axis VARCHAR NOT NULL,
    origin VARCHAR NOT NULL,            -- rule or model
    rule VARCHAR NOT NULL,              -- name of the rule, or version of the model's prompt
    span_id VARCHAR,                    -- the evidence; null where it is the whole trace
    confidence DOUBLE NOT NULL,         -- 0 to 1: share of such findings that explains a bad trace
    detail VARCHAR NOT NULL             -- what was found, in words
);

CREATE TABLE failure_rules (            -- how often each rule holds in bad and in good traces of an agent
    run_id BIGINT NOT NULL,
    agent VARCHAR,
    axis VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,           -- what the rule is about, such as a tool; '' for the whole trace
    bad BIGINT NOT NULL,                -- bad traces in which it holds
    bad_traces BIGINT NOT NULL,
    good BIGINT NOT NULL,               -- good traces in which it holds, among those examined
    good_traces BIGINT NOT NULL,
    attributable DOUBLE,                -- 1 - P(bad | does not hold) / P(bad | holds); null where it cannot be told
    lower DOUBLE,
    upper DOUBLE
);

CREATE TABLE signal_yield_runs (
    run_id BIGINT PRIMARY KEY,
    measured_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    traces BIGINT NOT NULL,
    referenced BIGINT NOT NULL,         -- traces with something that a source can be held against
    parameters VARCHAR NOT NULL         -- JSON: estimator, bins, replicates, notes
);

CREATE TABLE signal_yields (            -- how much one source tells about how a trace went
    run_id BIGINT NOT NULL,
    agent VARCHAR,                      -- null: within agents, averaged over them
    source VARCHAR NOT NULL,
    reference VARCHAR NOT NULL,         -- what it is held against
    bits DOUBLE,                        -- per episode, silence included; null where `reason` says why
    lower DOUBLE,
    upper DOUBLE,
    when_present DOUBLE,                -- bits per episode in which the source speaks
    share DOUBLE NOT NULL,              -- of the agent's traces in which it speaks
    per_thousand_tokens DOUBLE,
    thousand_lower DOUBLE,
    thousand_upper DOUBLE,
    n BIGINT NOT NULL,                  -- traces with the reference
    present BIGINT NOT NULL,            -- of these, traces in which the source speaks
    users BIGINT NOT NULL,
    estimator VARCHAR NOT NULL,
    reason VARCHAR
);

CREATE TABLE hacking_watch_runs (
    run_id BIGINT PRIMARY KEY,
    watched_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    comparisons BIGINT NOT NULL,        -- arms and versions held against a baseline
    alarms BIGINT NOT NULL,
    parameters VARCHAR NOT NULL         -- JSON: levels, composites and their caps, notes
);

CREATE TABLE hacking_watch (            -- one row an arm or version and measure, against the agent's baseline
    run_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    axis VARCHAR NOT NULL,              -- arm or version
    candidate VARCHAR NOT NULL,
    baseline VARCHAR NOT NULL,
    role VARCHAR NOT NULL,              -- proxy or gold
    measure VARCHAR NOT NULL,           -- click, volunteered thumb, judge, composite; gold
    difference DOUBLE,                  -- candidate minus baseline, in the measure's unit
    lower DOUBLE,                       -- valid at every look; null while collecting
    upper DOUBLE,
    n BIGINT NOT NULL,                  -- traces of both with the measure
    units BIGINT NOT NULL,              -- user-days among them
    ess DOUBLE NOT NULL,
    basis VARCHAR NOT NULL,             -- randomised (propensities logged) or observed
    alarm BOOLEAN NOT NULL,             -- this proxy is up while gold is down
    alarm_since TIMESTAMPTZ,            -- first moment at which both held
    reason VARCHAR                      -- why there is no interval
);
