"""Other machines: the jobs of a stage handed to Ray or Slurm, which schedule them, start them again and show
them. The run directory, on a file system that all share, is the only interface.
"""
