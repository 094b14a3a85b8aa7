"""The exceptions that mean: the user can put this right, or time can."""


class PrecisError(Exception):
    """Something that a user can cause and can mend.

    The message says what was found, where, what was expected and what to do next. It is shown
    without a traceback, and the process ends with a non-zero exit code.
    """


class UnreachableError(PrecisError):
    """Another machine did not answer. The same command may succeed later, with nothing changed."""
