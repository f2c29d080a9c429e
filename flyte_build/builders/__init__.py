"""Brings an image to where tasks find it: looked up in its registry, built here or by the backend, pushed."""
