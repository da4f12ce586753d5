-- What the language model was asked and what it cost, and judges: the rubrics that operators write, what was drawn to
-- be judged or labelled and with which probability, and what came of it. A verdict itself is a signal of kind 'judge'.

CREATE TABLE llm_calls (                -- one row a question, answers from the cache and refused questions included
    call_id BIGINT NOT NULL,
    run VARCHAR NOT NULL,               -- one user of the model, such as one run of a job: what a run's budget counts
    purpose VARCHAR NOT NULL,           -- what it was asked for, such as judge
    prompt_version VARCHAR NOT NULL,    -- file and version of the prompt
    subject VARCHAR,                    -- what the question is about, such as a trace id
    api VARCHAR NOT NULL,               -- responses or chat
    model VARCHAR NOT NULL,             -- as asked for
    answered_by VARCHAR,                -- as the server names it
    content_hash VARCHAR NOT NULL,      -- of everything that decides the answer
    asked_at TIMESTAMPTZ NOT NULL,
    seconds DOUBLE,                     -- from the question to its end, retries and waits included
    outcome VARCHAR NOT NULL,           -- running, answered, cached, over budget, refused, malformed, truncated,
                                        -- rejected, unavailable, interrupted
    attempts INTEGER NOT NULL,
    input_tokens BIGINT,                -- as the server counted; null when it did not say
    output_tokens BIGINT,
    charged_tokens BIGINT NOT NULL,     -- what counts against the budgets: the most it can have been while not known
    cost_usd DOUBLE NOT NULL,
    estimated BOOLEAN NOT NULL,         -- whether the charge holds a part that the server did not report
    error VARCHAR                       -- never holds the key
);

CREATE TABLE llm_answers (              -- the cache: answers that fitted their schema
    content_hash VARCHAR NOT NULL,
    answer VARCHAR USING COMPRESSION zstd,      -- a JSON object
    model VARCHAR NOT NULL,             -- as the server names it
    answered_at TIMESTAMPTZ NOT NULL,
    call_id BIGINT NOT NULL
);

CREATE TABLE judge_rubrics (            -- every version; the newest of a rubric counts
    rubric VARCHAR NOT NULL,            -- its key: the name of the signals that its verdicts become
    version INTEGER NOT NULL,
    subject VARCHAR NOT NULL CHECK (subject IN ('trace', 'comment')),
    text VARCHAR NOT NULL,
    scale VARCHAR NOT NULL CHECK (scale IN ('pass_fail', 'five_points', 'percent')),
    agent VARCHAR,                      -- null: every agent
    judged_share DOUBLE NOT NULL,       -- probability with which a subject is judged, where the budget allows it
    labelled_share DOUBLE NOT NULL,     -- probability with which a person is asked to label what is judged
    active BOOLEAN NOT NULL,
    author VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE judge_draws (              -- every subject that was considered, once for each version of a rubric
    rubric VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    subject_id VARCHAR NOT NULL,        -- a trace_id, or the signal_id of a comment
    probability DOUBLE NOT NULL,        -- with which it was chosen to be judged
    chosen BOOLEAN NOT NULL,
    label_probability DOUBLE NOT NULL,  -- with which, when chosen, a person is asked to label it
    label_wanted BOOLEAN NOT NULL,
    place DOUBLE NOT NULL,              -- the random number, from 0 to 1, that chose it
    drawn_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE judge_verdicts (           -- what came of what was chosen
    rubric VARCHAR NOT NULL,
    version INTEGER NOT NULL,
    subject_id VARCHAR NOT NULL,
    trace_id VARCHAR,
    outcome VARCHAR NOT NULL,           -- scored, refused, malformed, truncated, empty
    signal_id VARCHAR,                  -- of the verdict; null when there is none
    score DOUBLE,                       -- 0 to 1
    quote_found BOOLEAN,                -- whether the quote that the judge gave stands in what it judged
    prompt_version VARCHAR NOT NULL,
    call_id BIGINT,
    judged_at TIMESTAMPTZ NOT NULL
);
