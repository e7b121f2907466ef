"""Why a command ends without success: each kind has its own exit code, and says what to do."""

OK, FAILURE, USAGE, NOT_FOUND, AUTH, CONFLICT, PARTIAL, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 7, 130
"""Exit codes: 1 failure, 2 usage or a prompt was needed, 3 not found, 4 login needed or denied, 5 conflict or precondition
(signature, version, hash), 6 partial (some devices failed), 7 timed out waiting, 130 interrupted."""


class CliError(Exception):
    """Ends the command: ``message`` says what was wrong, ``hint`` what to do about it."""

    def __init__(self, code: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def from_status(status: int, title: str, hint: str = "") -> CliError:
    """The server's refusal as an exit code."""
    if status in (401, 403):
        code = AUTH
        hint = hint or ("run: rookery login" if status == 401 else "")
    elif status == 404:
        code = NOT_FOUND
    elif status in (409, 412, 422):
        code = CONFLICT
    else:
        code = FAILURE
    return CliError(code, title, hint)
