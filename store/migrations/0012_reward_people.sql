-- What a reward model says of each person: how satisfied they are, how lenient, and how far that is their own doing.

CREATE TABLE reward_people (            -- of the newest versions only
    reward_model_id BIGINT NOT NULL,
    user_id VARCHAR NOT NULL,
    events BIGINT NOT NULL,             -- explicit statements behind it
    satisfaction DOUBLE,                -- P(satisfied) with an average trace of the agents this person uses
    satisfaction_sd DOUBLE,
    leniency DOUBLE,                    -- logits added to what the person reports
    leniency_sd DOUBLE,
    leans_on DOUBLE,                    -- share of the estimate that is the segment's or the agent's: 1 without events
    segment VARCHAR                     -- what it leans on; null: the agent
);
