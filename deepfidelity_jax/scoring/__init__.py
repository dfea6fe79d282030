"""From a detector to scores, metrics and the report.

`exported_features` runs the network over a split, and `evaluate` fits the regressor and scores a
split. `table` holds the scores, `metrics` and `official` compute the figures, `controls` changes
real faces to test for false alarms, `charts`, `figure_charts` and `report` show the results.
`cross_dataset` does all of this on data that the detector was not trained on.
"""
