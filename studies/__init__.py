"""The papers' experiments: from settings fixed beforehand to results that keep every run.

Not a part of the package: run it from the root of the repository, `python -m studies NAME`.
"""
