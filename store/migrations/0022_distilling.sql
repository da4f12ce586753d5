-- Merges and retirements that the weekly distillation proposes, and which texts lint has read.

CREATE TABLE lesson_checks (            -- lint has read this version, whether or not it found anything
    lesson_id VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    checked_at TIMESTAMPTZ NOT NULL,
    findings INTEGER NOT NULL
);

CREATE TABLE distil_runs (
    run_id BIGINT PRIMARY KEY,
    found_at TIMESTAMPTZ NOT NULL,
    data_version BIGINT NOT NULL,
    code_version VARCHAR NOT NULL,
    parameters VARCHAR NOT NULL,        -- JSON
    lessons INTEGER NOT NULL,           -- looked at
    message VARCHAR NOT NULL
);

CREATE TABLE distil_proposals (         -- never applied without an operator; kept once decided
    proposal_id VARCHAR PRIMARY KEY,    -- hash of kind, keeper and members with their versions: the same finding once
    run_id BIGINT NOT NULL,             -- that found it first
    kind VARCHAR NOT NULL CHECK (kind IN ('merge', 'retire', 'escalate')),
    cause VARCHAR NOT NULL,             -- exact, near, unused, harmful, conflict, superseded, no_effect, repeats
    agent VARCHAR NOT NULL,
    keep_id VARCHAR,                    -- of a merge and of a conflict: the lesson that stays; else null
    keep_version INTEGER,
    similarity DOUBLE,                  -- least cosine of a member with the nearest other one of its group
    method VARCHAR,                     -- how likeness was measured, and why so
    checked VARCHAR NOT NULL CHECK (checked IN ('holds', 'fails', 'cannot be checked')),
    reason VARCHAR NOT NULL,
    supporting VARCHAR NOT NULL,        -- JSON array of {lesson_id, trace_id, reward, holds}
    opposing VARCHAR NOT NULL,          -- JSON array of the same
    state VARCHAR NOT NULL CHECK (state IN ('open', 'approved', 'declined', 'undone', 'outdated')),
    found_at TIMESTAMPTZ NOT NULL,
    decided_by VARCHAR,
    decided_at TIMESTAMPTZ,
    decision_reason VARCHAR,
    applied VARCHAR                     -- JSON: what an approval changed, so that it can be taken back as one
);

CREATE TABLE distil_members (
    proposal_id VARCHAR NOT NULL,
    lesson_id VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    role VARCHAR NOT NULL CHECK (role IN ('keep', 'merge', 'retire')),
    cosine DOUBLE                       -- with the one that is kept
);
