"""Where people train: thin files, one a library; each is imported by its own name.

`etastar.integrations.transformers`, `.lightning`, `.timm`, `.optuna`; `.combined` for trainers that
hold one optimizer, `.lr_range` for a learning-rate range test.
"""
