-- A look of a safety floor says whether its arms were drawn with logged probabilities: only then is anything switched off.

ALTER TABLE safety_looks ADD COLUMN basis VARCHAR DEFAULT 'randomised';   -- randomised or observed
