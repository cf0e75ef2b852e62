"""The rules that every gate keeps, whatever mode it waits in."""
