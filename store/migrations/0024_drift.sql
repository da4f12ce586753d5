-- Drift of users, segments and everybody: many metrics, each with its likelihood, and the state between full scans.

CREATE TABLE drift_findings_new (       -- one row per run, level, subject and metric that was scanned
    run_id BIGINT NOT NULL,
    level VARCHAR NOT NULL CHECK (level IN ('user', 'segment', 'population')),
    user_id VARCHAR,                    -- of level user
    segment VARCHAR,                    -- the user's, or the one scanned
    agent VARCHAR,                      -- of levels segment and population: whose traces; null for all agents
    metric VARCHAR NOT NULL,
    likelihood VARCHAR NOT NULL,        -- bernoulli, gaussian, log, categorical, embedding: by the metric's shape
    events BIGINT NOT NULL,             -- scanned
    events_total BIGINT,                -- held of this subject
    statistic DOUBLE NOT NULL,
    p_value DOUBLE NOT NULL,            -- valid for all looks so far
    q_value DOUBLE,                     -- after the gate and Benjamini-Hochberg
    flagged BOOLEAN NOT NULL,
    changed_at TIMESTAMPTZ,             -- the first event after the likeliest change
    changed_from TIMESTAMPTZ,           -- of the set of times that are nearly as likely
    changed_to TIMESTAMPTZ,
    before_mean DOUBLE,                 -- on the metric's own scale, as seen
    before_n BIGINT,
    after_mean DOUBLE,
    after_n BIGINT,
    effect DOUBLE,                      -- after minus before, shrunk
    effect_sd DOUBLE,
    practical DOUBLE,                   -- probability that the change is larger than the metric's practical threshold
    category VARCHAR,                   -- likelihood categorical: whose share changed most; before and after are of it
    psi DOUBLE,                         -- likelihood categorical: bias-corrected population stability index
    explained_by VARCHAR,               -- a known intervention (interventions.intervention_id) that it follows
    found_at TIMESTAMPTZ NOT NULL
);
INSERT INTO drift_findings_new BY NAME SELECT 'user' AS level, 'bernoulli' AS likelihood, * FROM drift_findings;
DROP TABLE drift_findings;
ALTER TABLE drift_findings_new RENAME TO drift_findings;

ALTER TABLE drift_runs ADD COLUMN refreshed_at TIMESTAMPTZ; -- when users were last scanned between two full scans
ALTER TABLE drift_runs ADD COLUMN rescanned BIGINT;         -- users scanned since the full scan, because they looked it
ALTER TABLE drift_runs ADD COLUMN schedule VARCHAR;         -- of looks, that the p-values were calibrated for

CREATE TABLE drift_metrics (            -- one row per run, level and metric: what was measured, and how it was judged
    run_id BIGINT NOT NULL,
    level VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    likelihood VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,            -- why this likelihood, in words
    threshold DOUBLE NOT NULL,          -- the least change that matters, in the metric's unit
    events BIGINT NOT NULL,
    ignored BIGINT NOT NULL,            -- events without a number
    subjects BIGINT NOT NULL,           -- with events; subjects = scanned + too_few
    scanned BIGINT NOT NULL,
    flagged BIGINT NOT NULL,
    too_few BIGINT NOT NULL,
    missing_median DOUBLE,              -- how many more events half of those need
    explained DOUBLE                    -- share of the variance within users that everybody has in common
);

CREATE TABLE drift_states (             -- one row a user and metric: sums and cumulative sums between full scans
    user_id VARCHAR NOT NULL,
    metric VARCHAR NOT NULL,
    n BIGINT NOT NULL,
    mean DOUBLE NOT NULL,
    m2 DOUBLE NOT NULL,                 -- sum of squared deviations from the mean
    minimum DOUBLE NOT NULL,
    maximum DOUBLE NOT NULL,
    s_plus DOUBLE NOT NULL,             -- cumulative sums above and below the reference, in its standard deviations
    s_minus DOUBLE NOT NULL,
    reference_mean DOUBLE NOT NULL,     -- of the full scan
    reference_sd DOUBLE NOT NULL,
    first_at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,
    suspected BOOLEAN NOT NULL          -- looks as if changed: scanned sooner
);

CREATE TABLE drift_progress (           -- up to which publication of facts the states stand
    publication BIGINT NOT NULL,
    full_at TIMESTAMPTZ NOT NULL        -- of the newest full scan
);

CREATE TABLE drift_calibrations (       -- quantiles of the statistic under no change, by schedule of looks
    schedule VARCHAR PRIMARY KEY,
    made_at TIMESTAMPTZ NOT NULL,
    quantiles VARCHAR NOT NULL          -- JSON
);
