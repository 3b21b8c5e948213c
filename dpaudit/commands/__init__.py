"""What the command line shows beside the stages: options, overviews, the check of the machine, the self-test.

May import: everything but `cli`.
"""
