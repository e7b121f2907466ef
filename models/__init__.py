"""Neural networks: what they need to run (cards), how they run (inference), how good they are (evaluate)."""
