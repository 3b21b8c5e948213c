"""Statistics in NumPy and SciPy alone: bounds on epsilon, trade-off curves, ROC curves, paired tests.

May import: nothing of this package.
"""
