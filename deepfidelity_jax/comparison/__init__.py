"""Comparison of detectors on the same faces, using only their prediction files.

`prediction_files` reads this project's files and other CSV files, `compare` matches their rows and
tests the differences, `tables` writes the result.
"""
