"""What is remembered between runs, and how the world is compared with it."""
