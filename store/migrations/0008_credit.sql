-- Credit: which part of a trace's reward is due to which step, and what the choice of each tool is worth.

CREATE TABLE credit_runs (              -- one estimation of credit
    run_id BIGINT PRIMARY KEY,
    reward_model_id BIGINT NOT NULL,    -- the rewards that were divided
    computed_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    traces BIGINT NOT NULL,             -- with credit
    steps BIGINT NOT NULL,
    informative BIGINT NOT NULL,        -- of the traces: those with signals of their own, which the values rest on
    notes VARCHAR NOT NULL,             -- JSON array of {agent, reason, text}
    parameters VARCHAR NOT NULL         -- JSON
);

CREATE TABLE step_credits (             -- credit = decision + luck; over a trace they sum to its reward minus `value` of step 1
    run_id BIGINT NOT NULL,
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR NOT NULL,
    position INTEGER NOT NULL,          -- among the trace's steps, by when their result was known, from 1
    value DOUBLE NOT NULL,              -- expected reward before the step
    credit DOUBLE NOT NULL,
    decision DOUBLE NOT NULL,           -- of choosing this step rather than what is usual in this state
    luck DOUBLE NOT NULL,               -- what came of it
    sd DOUBLE NOT NULL                  -- of the credit
);

CREATE TABLE parallel_credits (         -- joint credit of spans that ran at once, divided by their Shapley values
    run_id BIGINT NOT NULL,
    trace_id VARCHAR NOT NULL,
    parent_span_id VARCHAR NOT NULL,
    span_id VARCHAR NOT NULL,
    members INTEGER NOT NULL,
    credit DOUBLE NOT NULL,
    exact BOOLEAN NOT NULL              -- else from sampled orders
);

CREATE TABLE tool_credits (             -- mean decision credit of one choice, over all steps that made it
    run_id BIGINT NOT NULL,
    agent VARCHAR,
    scope VARCHAR NOT NULL,             -- tool, state (tool in one state), variant (how the tool was called), arm
    tool VARCHAR NOT NULL,
    state VARCHAR,                      -- what came before, or the variant
    steps BIGINT NOT NULL,              -- of traces with signals of their own
    traces BIGINT NOT NULL,
    clusters BIGINT NOT NULL,           -- users, or traces where users are not known
    estimate DOUBLE,                    -- null where `reason` says why
    lower DOUBLE,
    upper DOUBLE,
    sd DOUBLE,
    p_value DOUBLE,
    q_value DOUBLE,                     -- Benjamini-Hochberg over the agent's choices of this scope
    basis VARCHAR NOT NULL,             -- causal (randomised with logged propensity) or predictive
    reason VARCHAR
);
