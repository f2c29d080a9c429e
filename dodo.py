from flyte_build.dodo import *  # noqa: F403
