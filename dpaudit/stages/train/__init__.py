"""Stage train: the grid's arms, their checkpoints and forecasts, and merged models.

May import: every room below `stages`, and of the stages those before it.
"""
