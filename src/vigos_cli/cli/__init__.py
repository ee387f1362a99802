"""The command line: Typer commands, launching Hydra, help, completion and error messages."""
