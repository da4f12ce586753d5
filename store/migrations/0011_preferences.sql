-- What people value, inferred from what they choose (inverse RL), say (stated goals) and prefer (pairs), and one row a
-- user for the Users page. Every derived row names its run; the large tables have no key.

CREATE TABLE preference_runs (
    preference_run_id BIGINT PRIMARY KEY,
    fitted_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    lists BIGINT NOT NULL,              -- shown sets that were fitted
    items BIGINT NOT NULL,              -- items in them
    chosen BIGINT NOT NULL,             -- items that were chosen
    users BIGINT NOT NULL,              -- people with at least one list
    parameters VARCHAR NOT NULL         -- JSON: features, anchor, position correction, what was left out and why
);

CREATE TABLE preference_weights (       -- of everyone (scope 'everyone') and of each segment
    preference_run_id BIGINT NOT NULL,
    scope VARCHAR NOT NULL,             -- everyone, segment
    segment VARCHAR,
    basis VARCHAR NOT NULL,             -- revealed (choices), stated (goals), rated (regression of ratings and thumbs)
    feature VARCHAR NOT NULL,
    weight DOUBLE NOT NULL,             -- logits for one unit of the feature; the scale is only known up to a factor
    sd DOUBLE NOT NULL,                 -- standard error of the mean weight, users as clusters
    spread DOUBLE,                      -- standard deviation of people's own weights
    ratio DOUBLE,                       -- to the anchor feature's weight, with its interval; null where it is unbounded
    ratio_lower DOUBLE,
    ratio_upper DOUBLE,
    users BIGINT NOT NULL,
    n BIGINT NOT NULL                   -- lists, stated values or ratings behind it
);

CREATE TABLE user_preferences (         -- one row a user and feature
    preference_run_id BIGINT NOT NULL,
    user_id VARCHAR NOT NULL,
    feature VARCHAR NOT NULL,
    weight DOUBLE NOT NULL,             -- revealed: posterior mean
    sd DOUBLE NOT NULL,
    leaning DOUBLE NOT NULL,            -- posterior variance / prior variance: 1 says nothing beyond the population
    stated DOUBLE,                      -- shrunk mean of what the user stated; null without statements
    stated_sd DOUBLE
);

CREATE TABLE stated_revealed (          -- does what people say agree with what they do: everyone, segments, users
    preference_run_id BIGINT NOT NULL,
    scope VARCHAR NOT NULL,             -- everyone, segment, user
    segment VARCHAR,
    user_id VARCHAR,
    features BIGINT NOT NULL,           -- that both sides have
    lists BIGINT NOT NULL,
    statements BIGINT NOT NULL,
    users BIGINT NOT NULL,
    angle DOUBLE,                       -- degrees between the two directions, with its 95 % interval
    angle_lower DOUBLE,
    angle_upper DOUBLE,
    statistic DOUBLE,                   -- D, chi-squared with features - 1 degrees of freedom when both agree
    p_value DOUBLE,
    q_value DOUBLE,                     -- Benjamini-Hochberg over the users of the run
    contradicts BOOLEAN,                -- q below .05 and an angle above 20 degrees; null: not enough data
    reason VARCHAR                      -- why nothing is said
);

CREATE TABLE preference_rankings (      -- Bradley-Terry over arms and models
    preference_run_id BIGINT NOT NULL,
    agent VARCHAR,
    axis VARCHAR NOT NULL,              -- arm, model, or what a comparison names
    basis VARCHAR NOT NULL,             -- stated (comparisons by people) or rewards (pairs of traces of one task)
    item VARCHAR NOT NULL,
    component INTEGER NOT NULL,         -- items are comparable only within one
    comparisons BIGINT NOT NULL,
    users BIGINT NOT NULL,
    strength DOUBLE,                    -- logits against the mean of the component; its error depends on the reference
    rank_lower INTEGER,                 -- 95 % interval of the rank, 1 is best
    rank_upper INTEGER,
    best DOUBLE,                        -- probability of being the best of the component
    reference VARCHAR,                  -- the item with the most comparisons
    difference DOUBLE,                  -- strength minus the reference's, with its 95 % interval
    difference_lower DOUBLE,
    difference_upper DOUBLE,
    verdict VARCHAR,
    reason VARCHAR                      -- why there is no verdict
);

CREATE TABLE user_runs (                -- when the rows of user_summaries were counted
    user_run_id BIGINT PRIMARY KEY,
    counted_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    users BIGINT NOT NULL,
    reward_model_id BIGINT
);

CREATE TABLE user_summaries (           -- one row a user, replaced as a whole by each run
    user_run_id BIGINT NOT NULL,
    user_id VARCHAR NOT NULL,
    segment VARCHAR,                    -- as the user's latest trace names it
    traces BIGINT NOT NULL,
    agents BIGINT NOT NULL,
    signals BIGINT NOT NULL,            -- of the user's traces, or naming the user
    explicit BIGINT NOT NULL,           -- thumbs, ratings, comments, corrections, preferences, annotations among them
    rewarded BIGINT NOT NULL,           -- traces whose reward (of the active model) has signals of its own
    reward DOUBLE,                      -- mean over those
    reward_variance DOUBLE,             -- of the traces' mean rewards
    reward_sd2 DOUBLE,                  -- mean of their own variances
    weeks DOUBLE[],                     -- mean reward of the newest weeks, oldest first, null in weeks without traces
    first_at TIMESTAMPTZ,
    latest_at TIMESTAMPTZ
);
