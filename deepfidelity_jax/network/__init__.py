"""The network of the paper, as functions of arrays."""
