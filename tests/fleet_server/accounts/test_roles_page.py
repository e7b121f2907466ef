"""The table of roles in docs/operations.md, against the routes themselves."""

import re
from pathlib import Path

from fleet_server.app import create_operator_app
from fleet_server.context import Context
from fleet_server.http_access import scope_of
from fleet_server.identities import SCOPES

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"


def test_the_page_says_who_may_do_what(sqlite_server: Context) -> None:
    """An admin picks a role for somebody by this table: a cell that says more or less than the door does misleads him."""
    app = create_operator_app(sqlite_server)
    scopes = {
        (method, re.sub(r"<[^>]*>", "…", rule.rule)): scope_of(app.view_functions[rule.endpoint])
        for rule in app.url_map.iter_rules() for method in rule.methods or ()
    }  # fmt: skip
    lines = PAGE.read_text().partition("### Roles\n")[2].partition("\n### ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert rows[0][1:6] == list(SCOPES)
    named = set()
    for deed, *cells, routes in rows[1:]:
        for method, path in re.findall(r"`([A-Z]+) (\S+)`", routes):
            scope = scopes[method, f"/api/v1{path}"]
            assert scope is not None, deed
            assert ["yes" if scope in SCOPES[role] else "–" for role in SCOPES] == cells, (deed, method, path, scope)
            named.add(scope)
    assert named == SCOPES["admin"]
