"""From an empty card to a device in the fleet."""
