"""Detectors compared on the same faces, from their prediction files alone.

`prediction_files` reads this project's files and those of others, `compare` matches their rows and
tests the differences, `tables` writes the result.
"""
