"""Log lines of devices, and the debug sessions that ask for more of them."""
