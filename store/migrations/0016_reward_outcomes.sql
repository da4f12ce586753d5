-- What a trace's own signals say of its reward, without what was expected of it beforehand. A reward is drawn towards
-- what is expected, so a mean of rewards understates how far an arm differs from the others until the model has learnt
-- that; a mean of outcomes does not. Null without signals, or where they say next to nothing.

ALTER TABLE rewards ADD COLUMN outcome DOUBLE;      -- unbiased for the reward, and so not bound to 0 to 1
ALTER TABLE rewards ADD COLUMN outcome_sd DOUBLE;   -- of its noise
