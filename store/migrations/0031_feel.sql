-- What the pages remember of each operator: their visits, how they like to read times, and the views they saved.

CREATE TABLE operator_visits (          -- one row an operator
    operator VARCHAR NOT NULL,
    before_at TIMESTAMPTZ,              -- the end of the visit before this one; null: this is the first
    began_at TIMESTAMPTZ NOT NULL,
    last_at TIMESTAMPTZ NOT NULL,       -- up to five minutes behind
    zone VARCHAR                        -- in which times are shown: utc or browser; null: not chosen
);

CREATE TABLE saved_views (              -- the filters of a page under a name
    view_id VARCHAR NOT NULL,
    operator VARCHAR NOT NULL,          -- whose it is
    page VARCHAR NOT NULL,              -- of the dashboard
    name VARCHAR NOT NULL,
    query VARCHAR NOT NULL,             -- JSON: a list of values for each parameter of the address
    shared BOOLEAN NOT NULL,            -- everybody sees it; else only whose it is
    saved_at TIMESTAMPTZ NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL
);
