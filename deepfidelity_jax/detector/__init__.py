"""From a workdir to verdicts.

`load` gives the `Detector` in a workdir, `predict` takes an image or a video to a verdict, and
`lines` writes the verdicts of many files so that an interrupted command can go on.
"""
