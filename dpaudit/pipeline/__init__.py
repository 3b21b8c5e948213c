"""The plan of a suite, the gate before a run exists, the stages in order; what a finished run is asked later.

May import: the stages and every room below; `commands` stand above.
"""
