"""From quality to a training target, from a feature to fidelity, from fidelity to a verdict.

The paper's idea (DeepFidelity, arXiv 2312.04961) in three steps, each a pure function:

    `scale.scale`           target = low_c + (high_c - low_c) * (q - q_min_c) / (q_max_c - q_min_c)
    `arrays.regress`        f(x) = b + sum_i a_i exp(-gamma |x - v_i|^2)
    `calibration.is_real`   real where f >= threshold
    `calibration.p_fake`    sigmoid(slope * (f - threshold)), slope < 0; or another falling curve

Here q is the quality of a face, c its class, and [low_c, high_c] is [0, 0.4] for fake faces and
[0.6, 1] for real ones. scikit-learn fits the regressor once (`regressor`, or another of
`alternatives`), JAX evaluates its `arrays` on the device, and `stored` keeps everything in
`fidelity.npz`.
"""
