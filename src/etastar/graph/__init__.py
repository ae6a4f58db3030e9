"""Capture of the executed graph, effective depth, and the roles of parameters."""
