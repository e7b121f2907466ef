"""Writes the table of guards into ``docs/security.md`` (``python -m tests.guards.write_table``)."""

from pathlib import Path

from tests.guards.matrix import HEADING, TABLE_HEAD, table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"


def written_in(text: str) -> str:
    """The table as the page has it."""
    after = text.partition(f"{HEADING}\n")[2].partition(TABLE_HEAD)[2]
    rows = []
    for line in after.splitlines(keepends=True):
        if not line.startswith("|"):
            break
        rows.append(line)
    return TABLE_HEAD + "".join(rows)


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(page.replace(written_in(page), table()))
