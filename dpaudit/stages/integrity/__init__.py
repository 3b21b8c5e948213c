"""Whether plan, corpus, weights and arms are those that were written.

May import: every room below `stages`, and of the stages those before it.
"""
