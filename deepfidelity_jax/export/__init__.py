"""A trained detector as files that other programs run.

`write` picks the form by the name of the output. `program` is what is exported, one function from
face crops to scores, with `view` in front; `stablehlo` lowers it. `onnx_model` is the same function
in ONNX operators, built with `onnx_graph` from `onnx_network` and `onnx_scores`. `metadata`
describes the file. `hub` writes a folder for a model hub.
"""
