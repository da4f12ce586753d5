"""What lessons pay: the effect of serving each lesson, measured on the decisions in which it was withheld at random."""
