"""The wire: what device and server say to each other. A leaf that imports none of ours."""
