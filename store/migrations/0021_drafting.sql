-- What a language model was asked for lessons, and what became of it.

CREATE TABLE lesson_drafting (          -- one row each time that the model was asked about a group of rollouts
    draft_no BIGINT NOT NULL,
    agent VARCHAR NOT NULL,
    task VARCHAR NOT NULL,
    fingerprint VARCHAR NOT NULL,       -- of the rollouts with their outcomes, the prompt, the model: the same is not asked again
    data_version BIGINT NOT NULL,
    rollouts INTEGER NOT NULL,          -- of the group
    value DOUBLE,                       -- of the group, as the contrast ranks it
    chosen VARCHAR NOT NULL,            -- JSON array of {alias, trace_id, role, outcome, reward, reward_sd}: what the prompt tells of
    cut VARCHAR,                        -- JSON array of sentences: what of the rollouts the prompt leaves out
    prompt_version VARCHAR NOT NULL,
    stages INTEGER NOT NULL,            -- 1: the rollouts themselves were asked about; 2: summaries of them came first
    model VARCHAR NOT NULL,             -- as asked for
    output_limit INTEGER NOT NULL,      -- the longest answer allowed, in tokens
    prompt_tokens INTEGER NOT NULL,     -- estimated
    content_hash VARCHAR NOT NULL,      -- of the question: by it the kept answer is found (llm_answers)
    call_id BIGINT,                     -- the last of its calls (llm_calls)
    batch_no BIGINT,                    -- the batch that it was sent in
    tries INTEGER NOT NULL,             -- how often this fingerprint was asked, this time included
    status VARCHAR NOT NULL CHECK (status IN (
        'asking', 'waiting', 'proposed', 'nothing to learn', 'quotes not found', 'refused', 'truncated', 'off-schema',
        'over budget', 'unavailable', 'interrupted')),
    lesson_ids VARCHAR NOT NULL,        -- JSON array of what was proposed
    dropped VARCHAR NOT NULL,           -- JSON array of sentences: what of the answer was not taken, and why
    tokens BIGINT NOT NULL,             -- charged, summaries included
    cost_usd DOUBLE NOT NULL,
    message VARCHAR NOT NULL,           -- for people
    asked_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ                -- null while it is asking or waiting
);

CREATE TABLE llm_batches (              -- questions that were sent as one file and are answered within a day
    batch_no BIGINT NOT NULL,
    purpose VARCHAR NOT NULL,
    batch_key VARCHAR NOT NULL,         -- random; names the file and marks the batch on the server, by which it is found again
    api VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    address VARCHAR NOT NULL,           -- of the server
    state VARCHAR NOT NULL CHECK (state IN (
        'prepared', 'uploading', 'uploaded', 'creating', 'running', 'completed', 'failed', 'expired', 'cancelled')),
    server_state VARCHAR,               -- as the server names it
    questions INTEGER NOT NULL,
    content VARCHAR USING COMPRESSION zstd,     -- the file, until the server has made a batch of it
    input_file_id VARCHAR,
    server_id VARCHAR,
    input_usd DOUBLE NOT NULL,          -- per million tokens, as reserved
    output_usd DOUBLE NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    stepped_at TIMESTAMPTZ NOT NULL,    -- when the state was last changed
    looked_at TIMESTAMPTZ,              -- when the server was last asked
    ended_at TIMESTAMPTZ,
    message VARCHAR                     -- what is wrong with it, or how it ended
);

CREATE TABLE llm_batch_questions (
    batch_no BIGINT NOT NULL,
    custom_id VARCHAR NOT NULL,
    call_id BIGINT NOT NULL,
    schema VARCHAR NOT NULL             -- that the answer is held to
);
