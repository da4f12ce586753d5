-- What the last contrasts of good and bad rollouts found, for the page: groups of rollouts and step patterns.

CREATE TABLE contrast_runs (
    run_id BIGINT PRIMARY KEY,
    contrasted_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    reward_model_id BIGINT,             -- whose outcomes were compared
    failure_run_id BIGINT,              -- whose labels set rollouts aside; null: none were
    parameters VARCHAR NOT NULL         -- JSON: thresholds and notes
);

CREATE TABLE contrast_agents (          -- traces = used + set_aside_* + without_outcome
    run_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    traces BIGINT NOT NULL,             -- of the agent that belong to a task
    used BIGINT NOT NULL,               -- compared
    set_aside_environment BIGINT NOT NULL, -- a tool or its environment failed, in bad rollouts and in good ones alike
    set_aside_request BIGINT NOT NULL,  -- bad, and the request lacked what was needed
    set_aside_exploration BIGINT NOT NULL, -- bad, and run to explore
    without_outcome BIGINT NOT NULL,
    tasks BIGINT NOT NULL,
    mixed BIGINT NOT NULL,              -- tasks whose rollouts differ in outcome: the groups
    tested BIGINT NOT NULL,             -- patterns
    survive BIGINT NOT NULL,            -- false-discovery control, with an effect that matters
    findings BIGINT NOT NULL,           -- of these, not explained by another
    best_q DOUBLE,                      -- null where nothing was tested
    note VARCHAR                        -- why nothing was tested or proposed
);

CREATE TABLE contrast_groups (          -- one row a task whose rollouts differ in outcome
    run_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    traces BIGINT NOT NULL,             -- traffic, also without outcome
    traces_per_day DOUBLE NOT NULL,
    rollouts BIGINT NOT NULL,           -- compared
    set_aside BIGINT NOT NULL,
    without_outcome BIGINT NOT NULL,
    mean_outcome DOUBLE NOT NULL,
    standard_error DOUBLE NOT NULL,
    sd_outcome DOUBLE NOT NULL,         -- spread without the noise of outcomes
    uncovered DOUBLE NOT NULL,          -- 1 - share of the task that served lessons cover
    value DOUBLE NOT NULL,              -- traces_per_day x sd_outcome x uncovered
    best_trace_id VARCHAR NOT NULL,
    worst_trace_id VARCHAR NOT NULL,
    good_trace_ids VARCHAR[] NOT NULL,  -- the best, and another that took other steps
    bad_trace_ids VARCHAR[] NOT NULL,
    kind VARCHAR NOT NULL,              -- of the first difference between best and worst: action, arguments, none
    step INTEGER,
    previous_action VARCHAR,
    best_action VARCHAR,                -- null: that rollout takes no further action
    worst_action VARCHAR,
    best_span_id VARCHAR,
    worst_span_id VARCHAR,
    escalate VARCHAR                    -- why a person must look: a lesson on this is served and the task still fails
);

CREATE TABLE contrast_patterns (        -- every step pattern that was tested
    run_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    pattern VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,              -- missing, used, precedes, order, repeated, unresolved, error_then_*, given, shape
    tool VARCHAR NOT NULL,
    other_tool VARCHAR,
    argument VARCHAR,
    shape VARCHAR,                      -- type of the argument: a date, text, a number, ...
    effect DOUBLE NOT NULL,             -- mean outcome with minus without, within task
    lower DOUBLE,
    upper DOUBLE,
    p_value DOUBLE NOT NULL,
    q_value DOUBLE NOT NULL,
    survives BOOLEAN NOT NULL,
    exact BOOLEAN NOT NULL,             -- p from the permutation distribution itself
    rollouts_with BIGINT NOT NULL,
    rollouts_without BIGINT NOT NULL,
    tasks BIGINT NOT NULL,              -- that have rollouts with and without
    informative_tasks BIGINT NOT NULL,  -- of these, those that also differ in outcome
    family BIGINT NOT NULL,             -- patterns tested for this agent
    same_as VARCHAR[] NOT NULL,         -- patterns of exactly the same (or, after "not ", of all other) rollouts
    explained_by VARCHAR,               -- a stronger finding without which this one does not survive
    lesson_id VARCHAR,                  -- proposed for it, now or before
    escalate VARCHAR                    -- why a person must look instead of one more lesson
);
