"""What can be set: schema, composition, and what a run records about itself."""
