"""What the server wants done differently: judged, put into the running cameras, kept as last good or rolled back."""
