"""A real Docker engine and a real registry on loopback, for tests: `python -m tests.engine start`. See README.md."""
