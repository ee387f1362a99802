"""One module per command with its function `run`, imported when the command is used."""
