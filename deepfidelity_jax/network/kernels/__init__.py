"""How each platform computes the operators: custom gradients and GPU kernels."""
