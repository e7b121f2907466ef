"""All that travels over the air, used by both sides; imports neither."""
