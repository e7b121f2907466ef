"""The agent: runs on the board, detects, tracks, decides, and keeps itself up to date."""
