"""Tensors from files that other programs wrote; nothing in them is run."""
