"""What runs in the discovery process, where the user's code is: nothing else of flyte_build executes user code.

A parent imports the SDK once and forks a child for each target (`zygote`); the child installs the recorder (`record`),
imports the target's files (`load`), and writes what they gave as data (`protocol`).
"""
