-- The library of lessons: whom a lesson is for, how far its text can be trusted, what lint found, how lessons relate, and
-- what is served to an agent when.

-- A lesson is for the requests that match all of agent ('*': every agent), task, segment and user_id that are not null.
ALTER TABLE lessons ADD COLUMN segment VARCHAR;
ALTER TABLE lessons ADD COLUMN user_id VARCHAR;
ALTER TABLE lessons ADD COLUMN holdout DOUBLE;          -- withheld with this probability; null: by its state, see lesson_settings
ALTER TABLE lessons ADD COLUMN expires_at TIMESTAMPTZ;  -- not served from then on
ALTER TABLE lessons ADD COLUMN paused VARCHAR;          -- why it is not served although its state says so; null: it is served
ALTER TABLE lessons ADD COLUMN state_reason VARCHAR;
ALTER TABLE lessons ADD COLUMN state_by VARCHAR;        -- an operator, or trimtab itself

-- Trust is the least over what a text was made of: untrusted (words of users or tools), agent, model, system, operator.
ALTER TABLE lesson_versions ADD COLUMN trust VARCHAR;
ALTER TABLE lesson_versions ADD COLUMN taint VARCHAR;   -- JSON array: where words of users or tools stand, {field, quote, trace_id, span_id}
ALTER TABLE lesson_versions ADD COLUMN parents VARCHAR; -- JSON array of "lesson_id:version" that the text was made from

ALTER TABLE lesson_evidence ALTER COLUMN reward DROP NOT NULL;    -- evidence of agents and people may have none yet
ALTER TABLE lesson_evidence ALTER COLUMN reward_sd DROP NOT NULL;
ALTER TABLE lesson_evidence ADD COLUMN step INTEGER;
ALTER TABLE lesson_evidence ADD COLUMN field VARCHAR;   -- where the quote stands in its span: input, output, arguments, status_message
ALTER TABLE lesson_evidence ADD COLUMN verified BOOLEAN; -- the quote was found there, word for word; null: made by ourselves

ALTER TABLE lesson_reviews ADD COLUMN target VARCHAR;   -- the state an approval leads to: canary or active
ALTER TABLE lesson_reviews ADD COLUMN change VARCHAR;   -- JSON {before, after} of the columns of lessons that it changed

CREATE TABLE lesson_lint (              -- what lint found in one version of a text
    lesson_id VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    rule VARCHAR NOT NULL,              -- literal, length, imperative, contradiction, near_duplicate, no_contrast, single_task, taint
    severity VARCHAR NOT NULL CHECK (severity IN ('block', 'warn', 'note')),
    field VARCHAR,                      -- title, when_text, when_not, do_text, why
    excerpt VARCHAR,
    other_id VARCHAR,                   -- the lesson or guardrail that it is about
    message VARCHAR NOT NULL,
    found_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE lesson_overrides (         -- a person said that a blocking finding does not stand in the way
    lesson_id VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    rule VARCHAR NOT NULL,
    excerpt VARCHAR,
    reason VARCHAR NOT NULL,
    operator VARCHAR NOT NULL,
    overridden_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE lesson_links (
    lesson_id VARCHAR NOT NULL,
    other_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL CHECK (kind IN ('supersedes', 'refines', 'contradicts', 'duplicates')),
    note VARCHAR,
    created_by VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    removed_at TIMESTAMPTZ
);

CREATE TABLE lesson_settings (          -- null inherits: from agent '*', then from the default
    agent VARCHAR PRIMARY KEY,
    two_person BOOLEAN,                 -- an approval takes effect once a second person has approved
    canary_holdout DOUBLE,              -- .2
    active_holdout DOUBLE,              -- .1
    empty_share DOUBLE,                 -- share of decisions served no lesson at all, to compare with; .02
    token_budget INTEGER,               -- of the lessons in one answer; 2000
    automatic_demotion BOOLEAN,         -- retire a lesson on measured harm; true
    serving_off VARCHAR,                -- the kill switch: why nothing is served; null: serving
    pinned_playbook INTEGER,            -- time travel: this version of the playbook is served; null: the newest
    updated_by VARCHAR NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

-- What a version of a playbook serves, exactly: JSON array of {lesson_id, version, state, agent, task, segment, user_id,
-- holdout, expires_at, payoff, payoff_sd, payoff_n}; the texts are in lesson_versions.
ALTER TABLE playbooks ADD COLUMN entries VARCHAR;
ALTER TABLE playbooks ADD COLUMN settings VARCHAR;      -- JSON: token_budget, empty_share
