"""Passwords and codes for the verbs that must show them: asked without echo, or read from standard input, never arguments."""

import sys
from dataclasses import dataclass

import click

from fleet_server.cli.session import Session

STDIN_HELP = "Read the password from standard input, and the code of the second factor from its second line where there is one."
CODE_PROMPT = "code of your second factor"


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows who somebody is."""

    password: str
    code: str


def read_proof(session: Session, from_stdin: bool, factor: bool | None) -> Proof:
    """Password and code. ``factor`` None: it is not known yet whether this account has one, so an empty answer is fine."""
    if from_stdin:
        return Proof(line(), line())
    password = session.secret("--password-stdin", "password")
    if factor is False:
        return Proof(password, "")
    prompt = CODE_PROMPT if factor else f"{CODE_PROMPT} (empty if you have none)"
    return Proof(password, str(click.prompt(prompt, default="", show_default=False, err=True)))


def line() -> str:
    """The next line of standard input; empty at its end."""
    return sys.stdin.readline().rstrip("\n")


def new_password(session: Session, from_stdin: bool) -> str:
    """A password that is typed twice, or the next line of standard input."""
    if from_stdin:
        return line()
    session.secret_is_asked("--password-stdin", "the new password")
    return str(click.prompt("new password", hide_input=True, confirmation_prompt="once more", err=True))
