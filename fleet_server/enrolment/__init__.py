"""How a board gets its identity: claims, the certificate authority, renewal and revocation."""
