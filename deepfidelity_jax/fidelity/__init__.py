"""Quality to target, feature to fidelity, fidelity to verdict.

The paper's idea in three steps, each a pure function:

    `scale.scale`          f = low_c + (high_c - low_c) * (q - q_min_c) / (q_max_c - q_min_c)
    `regressor.regress`    f(x) = b + sum_i a_i exp(-gamma |x - v_i|^2)
    `calibration.p_fake`   sigmoid(slope * (f - threshold)), and real when f >= threshold

with q the face's quality, c its class, [low, high] = [0, 0.4] for fakes and [0.6, 1] for real faces
(DeepFidelity, arXiv 2312.04961). scikit-learn fits the regressor once; JAX evaluates it.
"""
