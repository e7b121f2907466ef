"""From an empty card to a device in the fleet: the room is kept, nothing is built in it yet."""
