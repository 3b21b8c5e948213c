"""The commands: each reads its options, calls a stage and prints; overviews of a run; the self-test.

May import: everything but `cli`.
"""
