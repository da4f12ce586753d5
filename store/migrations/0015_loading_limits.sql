-- Loadings and intercepts have limits of their own: they are ratios, whose intervals do not lie evenly around them.
-- Null in versions that were fitted before: there the limits are the estimate -+ 1.96 sd.

ALTER TABLE reward_loadings ADD COLUMN loading_lower DOUBLE;
ALTER TABLE reward_loadings ADD COLUMN loading_upper DOUBLE;
ALTER TABLE reward_loadings ADD COLUMN intercept_lower DOUBLE;
ALTER TABLE reward_loadings ADD COLUMN intercept_upper DOUBLE;
