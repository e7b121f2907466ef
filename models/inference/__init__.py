"""Running models: the only wrapper of an interpreter, and the pure code before and after it."""
