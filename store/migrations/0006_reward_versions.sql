-- What a version of the reward model says of itself: on which data it was fitted, how it did on users and tasks it had
-- not seen, how well it is calibrated, what its features are worth, and what scoring a new trace needs. The operator's
-- weights between what people state and what they do are kept beside it.

CREATE TABLE reward_versions (          -- one row a version of reward_models
    reward_model_id BIGINT NOT NULL,
    window_start TIMESTAMPTZ,           -- first and last moment of its traces; null when no trace states a time
    window_end TIMESTAMPTZ,
    users BIGINT NOT NULL,              -- distinct users and tasks among its traces
    tasks BIGINT NOT NULL,
    publication BIGINT NOT NULL,        -- the last one whose facts have been scored with it
    state VARCHAR NOT NULL CHECK (state IN ('active', 'candidate', 'retired')),
    reason VARCHAR NOT NULL,            -- why it is in this state
    decided_by VARCHAR,                 -- the operator who activated it; null: it activated itself
    decided_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE reward_metrics (           -- on data that the fit has not seen
    reward_model_id BIGINT NOT NULL,
    held_out VARCHAR NOT NULL,          -- users, tasks, users and tasks; in use: with the trace's own other signals
    metric VARCHAR NOT NULL,            -- brier, log_loss, ece, spearman
    value DOUBLE NOT NULL,
    lower DOUBLE,                       -- 95 % interval, clustered by user; null when it cannot be computed
    upper DOUBLE,
    n BIGINT NOT NULL,                  -- labelled traces
    clusters BIGINT NOT NULL,           -- users among them
    basis VARCHAR NOT NULL              -- which labels: solicited, verified, volunteered
);

CREATE TABLE reward_calibration (       -- reliability diagram: what was predicted against what people said
    reward_model_id BIGINT NOT NULL,
    held_out VARCHAR NOT NULL,
    bin INTEGER NOT NULL,
    predicted DOUBLE NOT NULL,          -- mean prediction of the bin
    observed DOUBLE NOT NULL,
    lower DOUBLE NOT NULL,
    upper DOUBLE NOT NULL,
    n BIGINT NOT NULL,
    basis VARCHAR NOT NULL
);

CREATE TABLE reward_feature_weights (   -- readable: logits per unit of the feature
    reward_model_id BIGINT NOT NULL,
    agent VARCHAR,                      -- null: the same for all agents
    feature VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,              -- number, step, text, arm, person, interaction
    weight DOUBLE NOT NULL,
    sd DOUBLE NOT NULL,
    traces BIGINT NOT NULL,             -- training traces in which it is not zero
    share DOUBLE NOT NULL               -- of all training traces
);

CREATE TABLE reward_loadings (          -- the measurement model: how each kind of signal reads the latent quality
    reward_model_id BIGINT NOT NULL,
    agent VARCHAR,
    kind VARCHAR NOT NULL,
    name VARCHAR,
    signals BIGINT NOT NULL,
    users BIGINT,
    loading DOUBLE,
    loading_sd DOUBLE,
    intercept DOUBLE,
    intercept_sd DOUBLE,
    weight DOUBLE,                      -- by which dependent signals of one trace are tempered
    anchor BOOLEAN,
    basis VARCHAR,
    note VARCHAR
);

CREATE TABLE reward_segment_means (
    reward_model_id BIGINT NOT NULL,
    agent VARCHAR,
    arm VARCHAR,
    segment VARCHAR,
    mean DOUBLE NOT NULL,
    sd DOUBLE,                          -- of the mean, clustered by user; null with fewer than two users
    n BIGINT NOT NULL,                  -- traces with signals of their own
    traces BIGINT NOT NULL,
    users BIGINT NOT NULL
);

CREATE TABLE reward_model_state (       -- what scoring a trace with this version needs, as JSON: never a pickle
    reward_model_id BIGINT NOT NULL,
    state VARCHAR NOT NULL USING COMPRESSION zstd
);

CREATE TABLE stated_weights (           -- what people state (1) against what they do (0), as operators set it
    agent VARCHAR,                      -- null: all agents
    segment VARCHAR,                    -- null: all segments
    weight DOUBLE NOT NULL,
    reason VARCHAR NOT NULL,
    set_by VARCHAR NOT NULL,
    set_at TIMESTAMPTZ NOT NULL
);

INSERT INTO reward_versions
SELECT reward_model_id, NULL, NULL, 0, 0, 0, CASE WHEN active THEN 'active' ELSE 'retired' END,
    'made before versions were compared', NULL, fitted_at
FROM reward_models;
