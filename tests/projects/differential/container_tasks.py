"""Raw containers, put into an environment with `from_task`."""

import flyte
from flyte.extras import ContainerTask
from flyte.io import Dir, File

greet = ContainerTask(
    name="greet",
    image="alpine:3.20",
    command=["/bin/sh", "-c", "echo {{.inputs.name}} > /var/outputs/greeting"],
    inputs={"name": str, "times": int},
    outputs={"greeting": str},
)
convert = ContainerTask(
    name="convert",
    image=flyte.Image.from_base("alpine:3.20"),
    command=["convert"],
    arguments=["--in", "/var/in/table", "--out", "/var/out/folder"],
    inputs={"table": File, "others": list[File]},
    outputs={"folder": Dir, "count": int},
    input_data_dir="/var/in",
    output_data_dir="/var/out",
    metadata_format="YAML",
    file_input_layout="NAMED_DIR",
    cache="auto",
    retries=2,
    timeout=60,
    resources=flyte.Resources(cpu=1, memory="256Mi"),
    env_vars={"MODE": "fast"},
    short_name="conv",
)
nothing = ContainerTask(name="nothing", image="auto", command=[], metadata_format="PROTO")

env = flyte.TaskEnvironment.from_task("containers_greet", greet)
env_convert = flyte.TaskEnvironment.from_task("containers_convert", convert, depends_on=[env])
env_nothing = flyte.TaskEnvironment.from_task("containers_nothing", nothing)
