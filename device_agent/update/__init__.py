"""How a release comes onto the board, is tried, and stays or goes: one table, a pure machine, a thin shell."""
