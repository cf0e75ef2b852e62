"""One poll for any number of gates."""
