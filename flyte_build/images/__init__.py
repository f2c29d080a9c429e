"""Container images as data: from the layers that the code names to a Dockerfile, a context and what they need.

Nothing here runs the user's code or touches the SDK: `sdk` reads an image's layers into the values of `layers`.
"""
