"""Tables that terms read; the notes beside each file say where it comes from."""
