"""Statistics of labelled scores, as functions of arrays: no files, no networks.

`ranking`, `reliability` and `operating` measure one detector, `intervals` gives their uncertainty,
`delong` and `paired` compare detectors, `groups` compares groups of faces, `aggregation` turns the
scores of frames into the score of a video.
"""
