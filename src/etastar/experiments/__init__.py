"""Named experiments, from settings that are fixed beforehand to a result that keeps every run."""
