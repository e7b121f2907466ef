"""The durable outbox: what is in it survives power loss until the server has it."""
