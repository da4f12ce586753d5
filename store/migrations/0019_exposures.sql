-- Lessons served to or withheld from decisions.

CREATE TABLE exposures (                -- one row for each lesson that a decision could have served; no index
    decision_id VARCHAR NOT NULL,
    decided_at TIMESTAMPTZ NOT NULL,
    agent VARCHAR NOT NULL,
    unit VARCHAR NOT NULL,              -- what the draw was made for: the session, else the decision
    lesson_id VARCHAR NOT NULL,
    lesson_version INTEGER NOT NULL,
    playbook_version INTEGER NOT NULL,
    status VARCHAR NOT NULL,            -- served, withheld (its own holdout), empty (the whole playbook withheld), over_budget
    served_probability DOUBLE NOT NULL, -- before the draws; 0 where over_budget
    empty_probability DOUBLE NOT NULL,
    match DOUBLE NOT NULL,              -- of `when` with the request, 0 to 1; 1 for lessons without condition on words
    tokens INTEGER NOT NULL
);

-- What lessons of a decision were chosen from; null where its agent was served none.
ALTER TABLE decisions ADD COLUMN playbook_version INTEGER;
ALTER TABLE decisions ADD COLUMN empty_probability DOUBLE;
