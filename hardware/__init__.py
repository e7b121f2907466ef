"""Facts about boards, and how a board is recognised."""
