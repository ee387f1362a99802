"""What each command runs: one module a command, imported when the command is used."""
