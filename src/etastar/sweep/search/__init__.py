"""Search strategies: which points of a size to run."""
