"""The blob store: crops and debug material, put and fetched through signed URLs."""
