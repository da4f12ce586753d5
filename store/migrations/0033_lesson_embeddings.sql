-- Embeddings of the texts of lessons, where a model for them is configured, and how lint compared each text.

CREATE TABLE lesson_embeddings (        -- one row a text and model; those of texts that no lesson has any more go
    origin VARCHAR NOT NULL,            -- hash of the address and the model: vectors of two of them are not compared
    content_hash VARCHAR NOT NULL,      -- sha256 of the text (store.embeddings.TEXT)
    vector FLOAT[] NOT NULL,
    call_id BIGINT NOT NULL,            -- of llm_calls, that brought it
    made_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE embedding_state (          -- one row while a model for embeddings is configured
    origin VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    failures INTEGER NOT NULL,          -- in a row; 0 once it answered
    tried_at TIMESTAMPTZ NOT NULL,
    error VARCHAR                       -- of the last failure
);

ALTER TABLE lesson_checks ADD COLUMN method VARCHAR;    -- how other lessons were compared; null before this migration
ALTER TABLE lesson_checks ADD COLUMN reason VARCHAR;    -- why not as configured; null where it was

-- They were kept as JSON, by the hash of something else.
DELETE FROM llm_answers WHERE call_id IN (SELECT call_id FROM llm_calls WHERE purpose = 'embedding');
