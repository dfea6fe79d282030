"""Tensors from files that other programs wrote, without running anything in them.

`named_tensors` reads weights by name from any supported format, `torch_file` reads PyTorch's
checkpoints without PyTorch, and `unpickle` reads the pickles inside them as data.
"""
