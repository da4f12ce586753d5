-- Operators: who may sign in, with which role, and the sessions that were ended before their time.

CREATE TABLE operators (
    email VARCHAR NOT NULL,             -- lower case; one row an address, kept when the operator is removed
    role VARCHAR NOT NULL CHECK (role IN ('viewer', 'reviewer', 'admin')),
    state VARCHAR NOT NULL CHECK (state IN ('invited', 'active', 'removed')),   -- active: has signed in
    invited_by VARCHAR NOT NULL,        -- 'trimtab': by the settings
    invited_at TIMESTAMPTZ NOT NULL,
    changed_by VARCHAR,                 -- who changed the role or removed the operator last
    changed_at TIMESTAMPTZ,
    last_seen_at TIMESTAMPTZ            -- null: never; up to five minutes behind
);

CREATE TABLE ended_sessions (
    session VARCHAR NOT NULL,           -- SHA-256 of what tells the sign-in apart from others
    email VARCHAR NOT NULL,
    ended_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL     -- from then on it would be over anyway, and the row may go
);
