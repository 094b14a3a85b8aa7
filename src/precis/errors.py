"""The one exception that means: the user can put this right."""


class PrecisError(Exception):
    """Something that a user can cause and can mend.

    The message says what was found, where, what was expected and what to do next. It is shown
    without a traceback, and the process ends with a non-zero exit code.
    """
