"""Container images, from data to a place in a registry: named, looked up, built, pushed. Needs no user code."""
