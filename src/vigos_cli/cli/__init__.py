"""The command line: Typer commands, the launch of Hydra, help, completion and error messages."""
