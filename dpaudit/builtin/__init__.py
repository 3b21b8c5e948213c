"""Weights that the package ships, with their tokenizers; `training/pretrain` makes them."""
