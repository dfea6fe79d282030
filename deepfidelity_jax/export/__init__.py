"""A trained detector as files that other programs run.

`write` picks the form by the name of the output. `program` is what is exported, one function from
face crops to scores, with `view` in front; `stablehlo` lowers it, and `onnx_graph`, `onnx_network`
and `onnx_scores` write the same function in ONNX operators. `hub` writes a folder for a model hub.
"""
