"""The overview of the whole fleet, and the live stream that says when to look again."""
