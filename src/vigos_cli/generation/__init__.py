"""Sample rollouts from prompts: in process, or on a remote server."""
