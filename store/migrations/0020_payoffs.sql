-- What lessons pay.

CREATE TABLE payoff_runs (
    run_id BIGINT PRIMARY KEY,
    found_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    reward_model_id BIGINT,
    message VARCHAR NOT NULL
);

CREATE TABLE lesson_payoffs (
    run_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,              -- lesson; playbook (all lessons against none); retry (repeated tasks, none against first try)
    lesson_id VARCHAR,                  -- null for the other kinds
    version INTEGER,
    segment VARCHAR,                    -- null: everybody
    measure VARCHAR NOT NULL,           -- reward, outcome, cost_usd, tokens
    estimator VARCHAR NOT NULL,         -- doubly robust, difference, paired
    served BIGINT NOT NULL,
    withheld BIGINT NOT NULL,
    units BIGINT NOT NULL,              -- independent: sessions or users
    effect DOUBLE,                      -- served minus withheld; null below the minimum sample
    lower DOUBLE,                       -- anytime-valid, level .95
    upper DOUBLE,
    sd DOUBLE,
    posterior DOUBLE,                   -- the effect shrunk towards those of the agent's other lessons; null: not estimated
    posterior_sd DOUBLE,
    verdict VARCHAR NOT NULL CHECK (verdict IN ('better', 'no worse', 'worse', 'can''t tell yet')),
    reason VARCHAR,                     -- why there is no number, or why it is to be read with care
    minimum_detectable DOUBLE,
    more_decisions BIGINT,              -- expected until a verdict; null: unknown or decided
    fixed BIGINT,                       -- paired tasks that only went well with it, and only without it
    broke BIGINT,
    tokens_per_decision DOUBLE,
    usd_per_decision DOUBLE
);
