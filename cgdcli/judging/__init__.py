"""What judgements tell beyond their figures: a run's page, how two runs or two indexes differ, and
what similarities mean."""
