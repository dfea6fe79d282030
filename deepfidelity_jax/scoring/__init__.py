"""From a detector to scores, figures and the report.

`exported_features` runs the network over a split, `evaluate` fits the regressor and scores a split,
`table` holds the scores, `metrics` and `official` turn them into figures, `charts`, `figure_charts`
and `report` show them. `cross_dataset` does all of it on data the detector was not trained on.
"""
