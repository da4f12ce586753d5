-- Privacy: who was forgotten, what was removed, how long things are kept, what is redacted on its way in.

ALTER TABLE audit_log ADD COLUMN nonce VARCHAR;     -- random, part of the hash; null before this migration, and once
                                                    -- redacted: what was there cannot be guessed from the hash

CREATE TABLE forgotten (                -- tombstones: nothing here says who it was without the key beside the database
    kind VARCHAR NOT NULL,              -- user, trace, session
    digest VARCHAR NOT NULL,            -- sha256(key || kind || id)
    forgotten_at TIMESTAMPTZ NOT NULL,
    refuse VARCHAR NOT NULL             -- late: what is dated before; always: whatever comes
);

CREATE TABLE removals (                 -- what was deleted of each batch, so that what was received still adds up
    removed_at TIMESTAMPTZ NOT NULL,
    cause VARCHAR NOT NULL,             -- forget, retention
    batch_id BIGINT NOT NULL,
    traces BIGINT NOT NULL,
    spans BIGINT NOT NULL,              -- superseded versions included
    signals BIGINT NOT NULL
);

CREATE TABLE retention_rules (          -- what is deleted once it is old; the rule of a source goes before that of '*'
    what VARCHAR NOT NULL,              -- traces, decisions, rejects, answers
    source VARCHAR NOT NULL,            -- '*': every source
    days INTEGER,                       -- null: kept for ever
    set_by VARCHAR NOT NULL,
    set_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE redaction_settings (       -- what is taken out of texts before they are stored; source '*' is the default
    source VARCHAR NOT NULL,
    builtins VARCHAR[] NOT NULL,
    patterns VARCHAR NOT NULL,          -- JSON array of {name, pattern}
    set_by VARCHAR NOT NULL,
    set_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE learning_opt_outs (        -- people whose traces nothing is learnt from, by an operator's word
    user_id VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    set_by VARCHAR NOT NULL,
    set_at TIMESTAMPTZ NOT NULL
);
