"""How each platform computes the network's operators.

An operator with a hand-written gradient has its definition beside it, named `plain_...`, and tests
check that both have the same values and gradients. `choice` decides what runs on a GPU, `pallas`
holds kernels for NVIDIA GPUs, `blocks` runs equal blocks in a loop. Timings: docs/speed.md.
"""
