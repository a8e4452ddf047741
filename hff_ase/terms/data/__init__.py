"""Tables that terms read; the notes next to each file say where it comes from."""
