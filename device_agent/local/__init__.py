"""Events on the spot, before any cloud: local MQTT, webhook, GPIO. Never in the way of the cameras."""
