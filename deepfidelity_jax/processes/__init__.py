"""Processes: a command, the hosts of one run, and workers.

console  a command as a process: signals, exit status, one-line errors
hosts    the processes of one run, on one host or many
workers  a pool of processes for functions that use no device
machine  cores, memory figures, JAX's devices
faults   the machine's faults behind an error: disk, permission, memory
"""
