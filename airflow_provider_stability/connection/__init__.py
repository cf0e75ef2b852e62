"""What a ``stability`` connection means: its fields, its settings, and how it is read."""
