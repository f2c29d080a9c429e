"""What is shared with other machines, and how it is found again.

Two steps, as in compilers' caches: what is known before anything is read (Python, distributions, the target's table)
names the *questions* that earlier runs asked of the world: which files they read, where imports were looked for, which
variables they asked for. The answers of the world here, with the same things, name the results. So what is found was
made from the same files, and is then judged once more exactly as a receipt of this checkout is.

    questions/SURROUNDINGS/STATIC/DIGEST   traces without their answers
    local/ANSWERS                          receipts and results of discover, bundle and images
    deployed/ANSWERS+PLACE                 those, and of upload, serialize and deploy
    used/DAY/DIGEST                        names of what a run used on a day, for pruning
"""
