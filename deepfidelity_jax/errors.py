"""The exception for errors of the user: wrong usage, configuration or input."""


class InputError(Exception):
    """What is wrong, where, and what to do about it, in one line.

    The command line prints it without a traceback and exits with status 2.
    """
