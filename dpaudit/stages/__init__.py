"""The stages: each reads the run directory and writes the run directory. Its rooms, in order: integrity,
prepare, train, attack, audit.

May import: every room below; `pipeline` and the command line stand above.
"""
