"""An image whose URI is named outside the code, as `--image base=URI` does."""

import flyte

env = flyte.TaskEnvironment(name="image_reference", image=flyte.Image.from_ref_name("base"))


@env.task
def on_reference() -> None: ...
