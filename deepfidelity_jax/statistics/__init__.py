"""Statistics of labelled scores, as functions of arrays: no files, no networks.

`ranking`, `reliability` and `operating` measure one detector, `intervals` says how sure that is,
`delong` and `paired` compare detectors, `groups` compares groups of faces, `aggregation` makes the
score of a video from those of its frames.
"""
