"""The one exception that a user is meant to read."""


class CortexffError(Exception):
    """Something the user can mend: one line that names the thing, the value found and the values allowed.

    The command line prints it without a traceback and exits with code 2.
    """
