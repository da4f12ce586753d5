"""What the pages of the learning loop share: operators' actions, rollouts side by side, figures and tables."""
