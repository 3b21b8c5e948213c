"""Watching somebody else's private training from inside: canaries as extra rows, axes of the weights as their
gradients, a key, and a record of what reached the optimizer.
"""
