"""The real operator app over SQLite on a free port, in a thread: for browsers and for the command line."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from werkzeug.serving import WSGIRequestHandler, make_server

from fleet_server.accounts import service as accounts
from fleet_server.app import create_operator_app, load_tables
from fleet_server.assemble import make_context, make_secrets
from fleet_server.context import Context
from fleet_server.enrolment import authority_x509
from fleet_server.settings import Settings

NAME, PASSWORD = "ada", "correct horse battery"


@dataclass
class OperatorSite:
    """Where it answers, and the context behind it."""

    url: str
    context: Context

    def setup_token(self) -> str:
        with self.context.database.write() as session:
            return accounts.new_setup_link(session, ttl_s=3600.0, now_s=time.time()).token

    def add_operator(self, name: str = NAME, role: str = "admin", password: str = PASSWORD) -> None:
        digest = accounts.hash_password(password)
        with self.context.database.write() as session:
            accounts.add_operator(session, name=name, password_hash=digest, role=role, now_s=time.time())


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002  werkzeug's name
        pass


@contextmanager
def operator_site(data_dir: Path) -> Iterator[OperatorSite]:
    """A site over a fresh data folder; ended at the end of the block."""
    data_dir.mkdir(parents=True, exist_ok=True)
    settings = Settings(data_dir=data_dir, broker="none")
    make_secrets(settings)
    context = make_context(settings)
    load_tables()
    context.database.create_all()
    authority_x509.prepare(settings.pki_dir, ["127.0.0.1"], time.time())
    server = make_server("127.0.0.1", 0, create_operator_app(context), threaded=True, request_handler=_Quiet)
    server.daemon_threads = True  # an open event stream must not keep the process
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield OperatorSite(f"http://127.0.0.1:{server.server_port}", context)
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
        context.database.dispose()
