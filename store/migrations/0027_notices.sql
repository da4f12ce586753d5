-- Notices to operators, how they are delivered, and segments of users by rule.

CREATE TABLE notices (
    notice_id BIGINT PRIMARY KEY,
    kind VARCHAR NOT NULL,              -- incident, drift, model change, guardrail, job, lesson, backup, ...
    notice_key VARCHAR NOT NULL,        -- what it is about: the same key is one notice while it is open
    severity VARCHAR NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    title VARCHAR NOT NULL,
    text VARCHAR NOT NULL,
    page VARCHAR NOT NULL,              -- of the dashboard, with its query
    query VARCHAR NOT NULL,             -- JSON
    posted_at TIMESTAMPTZ NOT NULL,
    times BIGINT NOT NULL,              -- how often it was posted while open
    last_at TIMESTAMPTZ NOT NULL,
    closed_at TIMESTAMPTZ,
    closed_by VARCHAR                   -- an operator who dismissed it; null: what it is about is over
);

CREATE TABLE notice_routes (            -- where notices go beside the page
    route_id BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    channel VARCHAR NOT NULL,           -- webhook, email
    target VARCHAR NOT NULL,            -- JSON: the address; secrets by the names of environment variables only
    kinds VARCHAR NOT NULL,             -- JSON list; empty: every kind
    least_severity VARCHAR NOT NULL,
    quiet_from VARCHAR,                 -- HH:MM in quiet_zone; null: no quiet hours
    quiet_to VARCHAR,
    quiet_zone VARCHAR,                 -- IANA name
    critical_passes BOOLEAN NOT NULL,   -- critical notices do not wait for the end of the quiet hours
    group_minutes BIGINT NOT NULL,      -- notices within so many minutes are one message; 0: each its own
    enabled BOOLEAN NOT NULL,
    since TIMESTAMPTZ NOT NULL,         -- notices posted before are not sent: when it was made or last enabled
    changed_by VARCHAR NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    removed_at TIMESTAMPTZ
);

CREATE TABLE notice_deliveries (        -- one row per message to one route
    delivery_id VARCHAR NOT NULL,       -- sent along: a repeat after a crash bears the same
    route_id BIGINT NOT NULL,
    planned_at TIMESTAMPTZ NOT NULL,
    state VARCHAR NOT NULL,             -- waiting, sending, delivered, given up, withdrawn
    attempts BIGINT NOT NULL,           -- counted before each is made
    next_at TIMESTAMPTZ,                -- of the next attempt; null: none
    attempted_at TIMESTAMPTZ,
    ended_at TIMESTAMPTZ,
    outcome VARCHAR,                    -- of the last attempt, in words
    test_by VARCHAR                     -- an operator who tests the route; null: a message of notices
);

CREATE TABLE notices_delivered (        -- what a delivery carries: a notice goes to a route once per opening
    delivery_id VARCHAR NOT NULL,
    route_id BIGINT NOT NULL,
    notice_id BIGINT NOT NULL
);

CREATE TABLE segment_rules (            -- versions of each rule; the newest of a segment counts
    segment VARCHAR NOT NULL,
    version BIGINT NOT NULL,            -- from 1, per segment
    priority BIGINT NOT NULL,           -- the lowest number that a user matches decides
    conditions VARCHAR NOT NULL,        -- JSON list; all have to hold
    reason VARCHAR NOT NULL,
    set_by VARCHAR NOT NULL,
    set_at TIMESTAMPTZ NOT NULL,
    removed BOOLEAN NOT NULL            -- no rule from this version on
);

CREATE TABLE user_segments (            -- of users whom a rule takes; all others have the one their metadata state
    user_id VARCHAR NOT NULL,
    segment VARCHAR NOT NULL,
    since TIMESTAMPTZ NOT NULL
);

CREATE TABLE segment_counts (           -- one row: what the members by rule were last counted from
    counted_at TIMESTAMPTZ NOT NULL,
    facts BIGINT NOT NULL,
    versions BIGINT NOT NULL            -- rows of segment_rules
);
