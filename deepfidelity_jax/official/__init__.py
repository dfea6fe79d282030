"""Converts the official PyTorch checkpoint and scikit-learn regressor to ours and back.

`network` translates tensors, `regressor` reads the SVR, `convert` does both for whole workdirs.
"""
