"""Detectors compared on the same faces, from their prediction files alone.

`prediction_files` reads ours and anyone's, `compare` matches their rows and tests the differences,
`tables` writes the result.
"""
