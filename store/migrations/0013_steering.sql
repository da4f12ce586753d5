-- Steering: the arms of each agent, versions of its policy, every decision with its propensities, the bounds operators
-- set, and what came of guardrails.

CREATE TABLE arms (
    agent VARCHAR NOT NULL,
    arm VARCHAR NOT NULL,               -- trimmed, Unicode NFC: names that look the same are the same
    kind VARCHAR NOT NULL CHECK (kind IN ('prompt', 'model', 'tools', 'lesson', 'mixed')),
    state VARCHAR NOT NULL CHECK (state IN ('enabled', 'shadow', 'off')),
    baseline BOOLEAN NOT NULL,          -- at most one of an agent
    description VARCHAR,
    definition VARCHAR NOT NULL,        -- JSON: what the agent needs to run it, such as prompt_version, model, tools
    origin VARCHAR NOT NULL CHECK (origin IN ('operator', 'api', 'traces')),
    state_reason VARCHAR,               -- why it is in this state
    state_by VARCHAR NOT NULL,          -- who put it there: an operator, a key, or trimtab itself
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (agent, arm)
);

CREATE TABLE policies (                 -- never overwritten: decisions name their version and can be replayed from it
    agent VARCHAR NOT NULL,
    version INTEGER NOT NULL,           -- from 1, per agent
    built_at TIMESTAMPTZ NOT NULL,
    reward_model_id BIGINT,
    cause VARCHAR NOT NULL,             -- schedule, arms, rates, guardrail, operator
    content VARCHAR NOT NULL,           -- JSON: all but the users
    code_version VARCHAR NOT NULL,
    PRIMARY KEY (agent, version)
);

CREATE TABLE policy_users (             -- of the users, what differs from the version before
    agent VARCHAR NOT NULL,
    version INTEGER NOT NULL,           -- from this version on
    user_id VARCHAR NOT NULL,
    segment VARCHAR,
    mean FLOAT[],                       -- by the version's columns (in its content: every arm the agent ever had, new
    sd FLOAT[],                         -- ones last, so that an arm switched off and on again changes no row); null: the
    rate FLOAT,                         -- segment's, and for the rate else the agent's
    opted_out BOOLEAN NOT NULL,
    removed BOOLEAN NOT NULL            -- not held any more from this version on
);

CREATE TABLE decisions (                -- large: no keys
    decision_id VARCHAR NOT NULL,
    decided_at TIMESTAMPTZ NOT NULL,
    agent VARCHAR NOT NULL,
    policy_version INTEGER NOT NULL,
    user_id VARCHAR,
    segment VARCHAR,
    session_id VARCHAR,
    task VARCHAR,
    unit VARCHAR NOT NULL,              -- what was hashed: session:..., or decision:... without a session
    draw DOUBLE NOT NULL,               -- the hash as a number from 0 to 1
    arm VARCHAR NOT NULL,
    greedy_arm VARCHAR NOT NULL,
    explore BOOLEAN NOT NULL,           -- another arm than the greedy one
    propensity DOUBLE NOT NULL,
    arms VARCHAR[] NOT NULL,            -- the eligible set
    propensities DOUBLE[] NOT NULL,     -- in the order of `arms`
    rate DOUBLE NOT NULL,               -- the probability of leaving the greedy arm that was in force
    allowed_rate DOUBLE NOT NULL,       -- what applied to the unit, before doubt and budget brought it down
    budget_scale DOUBLE NOT NULL,       -- 1, or less where the day's regret budget was short
    expected_regret DOUBLE NOT NULL,    -- reward points that the propensities are expected to cost against greedy
    worst_regret DOUBLE NOT NULL,       -- the same at the unfavourable ends of 95 % intervals
    solicit BOOLEAN NOT NULL,           -- the agent was told to ask for explicit feedback
    solicit_propensity DOUBLE NOT NULL,
    sticky BOOLEAN NOT NULL,            -- repeats the assignment of an earlier decision of the session
    off_policy BOOLEAN NOT NULL,        -- may enter off-policy estimates
    note VARCHAR,                       -- why not, or what was unusual
    lesson_set_hash VARCHAR,
    input_hash VARCHAR,
    source VARCHAR NOT NULL             -- name of the key
);

CREATE TABLE exploration_bounds (       -- what an operator allows; null inherits from the wider scope, then the default
    agent VARCHAR NOT NULL,
    scope VARCHAR NOT NULL CHECK (scope IN ('agent', 'segment', 'user')),
    unit VARCHAR NOT NULL,              -- '' for the agent itself
    floor DOUBLE,
    cap DOUBLE,
    dial DOUBLE,                        -- 0 respect what they prefer, 1 gently challenge it
    daily_regret_budget DOUBLE,         -- reward points a day; of the agent only
    solicit_rate DOUBLE,                -- of the agent only
    automatic BOOLEAN,                  -- recommended rates apply by themselves within floor and cap; of the agent only
    updated_by VARCHAR NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (agent, scope, unit)
);

CREATE TABLE never_explore (
    agent VARCHAR NOT NULL,             -- '*' for every agent
    kind VARCHAR NOT NULL CHECK (kind IN ('user', 'segment', 'task')),
    unit VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    set_by VARCHAR NOT NULL,
    set_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (agent, kind, unit)
);

CREATE TABLE unit_rates (               -- rates of segments and users, decided together with their agent's row
    agent VARCHAR NOT NULL,
    recommended_at TIMESTAMPTZ NOT NULL,
    scope VARCHAR NOT NULL CHECK (scope IN ('segment', 'user')),
    unit VARCHAR NOT NULL,
    rate DOUBLE NOT NULL,
    lower DOUBLE NOT NULL,
    upper DOUBLE NOT NULL,
    decisions BIGINT NOT NULL,
    doubt DOUBLE,                       -- probability that another arm than the greedy one is the best
    progress DOUBLE,                    -- learning progress and novelty, 0 to 1
    drift DOUBLE,                       -- how much recent drift raises the rate, 0 to 1
    tolerance DOUBLE,                   -- change of reward on exploratory decisions
    tolerance_sd DOUBLE,
    dial DOUBLE NOT NULL,
    reason VARCHAR NOT NULL
);

CREATE TABLE guardrails (
    agent VARCHAR NOT NULL,
    guardrail_id VARCHAR NOT NULL,
    arm VARCHAR,                        -- null: all arms of the agent
    kind VARCHAR NOT NULL CHECK (kind IN
        ('off_limits_tool', 'off_limits_site', 'off_limits_action', 'min_delay_seconds', 'max_actions_per_minute',
         'max_spend_usd', 'safety_floor')),
    subject VARCHAR,                    -- the tool, site or action; the metric of a safety floor
    threshold DOUBLE,                   -- the limit; for a safety floor the margin below the baseline that is tolerated
    on_violation VARCHAR NOT NULL CHECK (on_violation IN ('alert', 'switch_off')),
    state VARCHAR NOT NULL CHECK (state IN ('on', 'off')),
    created_by VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (agent, guardrail_id)
);

CREATE TABLE guardrail_violations (
    agent VARCHAR NOT NULL,
    guardrail_id VARCHAR NOT NULL,
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR,
    decision_id VARCHAR,
    arm VARCHAR,
    occurred_at TIMESTAMPTZ,
    found_at TIMESTAMPTZ NOT NULL,
    observed DOUBLE,
    detail VARCHAR NOT NULL,            -- what was expected and what was done, as text
    action VARCHAR NOT NULL             -- alert, switch_off
);

CREATE TABLE safety_looks (             -- each look of a safety floor at an arm: interval of arm minus baseline
    agent VARCHAR NOT NULL,
    guardrail_id VARCHAR NOT NULL,
    arm VARCHAR NOT NULL,
    looked_at TIMESTAMPTZ NOT NULL,
    n_arm BIGINT NOT NULL,
    n_baseline BIGINT NOT NULL,
    estimate DOUBLE,
    lower DOUBLE,
    upper DOUBLE,
    verdict VARCHAR NOT NULL            -- better, no worse, worse, can't tell yet
);
