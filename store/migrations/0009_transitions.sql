-- What a trace went through as abstract steps, and the transition models fitted to that. A path belongs to one version
-- of the abstraction and a count to one model: numbers of different versions are never mixed.

CREATE TABLE abstract_states (          -- every abstract step ever seen; `state` is the hash of the other columns
    abstraction INTEGER NOT NULL,
    state UBIGINT NOT NULL,
    kind VARCHAR NOT NULL,              -- of the span
    name VARCHAR,                       -- tool or span name; null for model calls
    failed BOOLEAN NOT NULL,
    arguments VARCHAR,                  -- coarse class: keys and types of a tool's input; what a model call follows
    retries INTEGER NOT NULL            -- 0, 1, 2 = twice or more: the same call was made before in the trace
);

CREATE TABLE trace_paths (              -- the abstract steps of a trace in order of time; recomputed when it changes
    abstraction INTEGER NOT NULL,
    trace_id VARCHAR NOT NULL,
    states UBIGINT[] NOT NULL,
    costs FLOAT[] NOT NULL              -- USD of each step, null where not stated
);

CREATE TABLE path_progress (            -- up to which publication paths were computed, and whether that is finished
    abstraction INTEGER NOT NULL,
    publication BIGINT NOT NULL
);

CREATE TABLE transition_models (        -- one row an agent and run
    model_id BIGINT NOT NULL,           -- the run; the newest is in use
    agent VARCHAR NOT NULL,             -- '' where no agent is stated
    abstraction INTEGER NOT NULL,
    fitted_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    reward_model_id BIGINT,             -- whose rewards told success from failure; null without one
    window_since TIMESTAMPTZ,           -- seen_at of the oldest and the newest trace
    window_until TIMESTAMPTZ,
    traces BIGINT NOT NULL,
    steps BIGINT NOT NULL,
    states INTEGER NOT NULL,
    concentration DOUBLE,               -- kappa; null where there is not enough data for a model
    user_concentration DOUBLE,          -- kappa_u; null where users cannot tell
    parameters VARCHAR NOT NULL         -- JSON: order test, learning curve, schema events, notes
);

CREATE TABLE transition_states (
    model_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    place INTEGER NOT NULL,             -- 0 is START, the ends come last
    label VARCHAR NOT NULL,
    role VARCHAR NOT NULL,              -- start, step, success, failure, ended
    visits BIGINT NOT NULL,
    base DOUBLE,                        -- m: probability of being next, pooled over states; null for START
    entropy DOUBLE,                     -- of the next state, nats; null for ends
    surprise_sd DOUBLE,
    unseen DOUBLE,                      -- Good-Turing: probability that the next step is one never seen from here
    novelty DOUBLE,                     -- 1 / sqrt(visits + 1)
    progress DOUBLE,                    -- drop of held-out loss by the newer half of the data, nats a step
    progress_se DOUBLE,
    progress_n BIGINT                   -- held-out steps from here
);

CREATE TABLE transition_folds (         -- which state of the model an abstract step belongs to
    model_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    state UBIGINT NOT NULL,
    place INTEGER NOT NULL
);

CREATE TABLE transition_counts (
    model_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    from_place INTEGER NOT NULL,
    to_place INTEGER NOT NULL,
    n BIGINT NOT NULL
);

CREATE TABLE trace_surprise (           -- of the model in use
    model_id BIGINT NOT NULL,
    trace_id VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    transitions INTEGER NOT NULL,       -- n behind the mean: steps and the end
    mean_z DOUBLE NOT NULL,             -- mean standardised surprise
    information DOUBLE NOT NULL,        -- sum of -ln p, nats
    bayesian DOUBLE NOT NULL,           -- sum of the Bayesian surprise, nats
    p_value DOUBLE,                     -- conformal; null where there is too little to compare with
    compared INTEGER NOT NULL,          -- traces compared with
    comparison VARCHAR NOT NULL         -- task, agent, or none
);

CREATE TABLE reliability (              -- absorbing chain: where traces end, after how many steps and at what cost
    model_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    arm VARCHAR,                        -- null: all arms
    measure VARCHAR NOT NULL,           -- success, failure, ended, success_of_judged, steps, cost_usd
    estimate DOUBLE NOT NULL,
    lower DOUBLE NOT NULL,
    upper DOUBLE NOT NULL,
    traces BIGINT NOT NULL
);

CREATE TABLE inferred_weights (         -- what behaviour says that agents or people value
    model_id BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    method VARCHAR NOT NULL,            -- maxent, demonstration, correction
    feature VARCHAR NOT NULL,
    weight DOUBLE NOT NULL,
    lower DOUBLE,
    upper DOUBLE,
    ratio DOUBLE,                       -- to the anchor
    ratio_lower DOUBLE,
    ratio_upper DOUBLE,
    q_value DOUBLE,
    n BIGINT NOT NULL,
    note VARCHAR
);
