"""Options and flags.

table        what each option may be
checks       whether a configuration is possible, and whether it is the workdir's
arguments    the command line
help         what --help prints
completion   completion in a shell
"""
