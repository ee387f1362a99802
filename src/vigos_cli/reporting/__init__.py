"""Tables, curves and HTML pages."""
