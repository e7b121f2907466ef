"""The way to the server: identity, HTTPS, broker, and a clock that can be trusted."""
