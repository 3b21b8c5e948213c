"""Stage attack: scores of all candidates, without a coin; shadow models.

May import: every room below `stages`, and of the stages those before it.
"""
