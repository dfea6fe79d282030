"""From a workdir to verdicts.

`load` gives the `Detector` in a workdir, and `predict` turns an image or a video into a verdict.
`finding` finds the faces in many files, `lines` writes verdicts so that an interrupted command can
resume, and `cluster` predicts with Apache Beam. `trained` reads a trained workdir, and `bundled`
packs it.
"""
