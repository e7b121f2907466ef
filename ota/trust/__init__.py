"""Trust: what may exist is signed offline, what a device should run is signed online, and both are checked on the device."""
