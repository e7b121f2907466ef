"""The command line of the operators: an HTTP client; imports neither Flask nor SQLAlchemy."""
