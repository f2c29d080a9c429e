"""Every kind of accelerator, and counts without a kind."""

import flyte

REQUESTS = {
    "count": flyte.Resources(gpu=2),
    "zero": flyte.Resources(cpu=1, gpu=0),
    "named": flyte.Resources(cpu=4, memory="16Gi", gpu="A100:2", shm="auto"),
    "shared": flyte.Resources(gpu="T4 shared:1"),
    "partition": flyte.Resources(gpu=flyte.GPU("A100", 1, "1g.5gb")),
    "partition80": flyte.Resources(gpu=flyte.GPU("A100_80G", 4, "2g.20gb")),
    "h200": flyte.Resources(gpu=flyte.GPU("H200", 8)),
    "tpu": flyte.Resources(gpu=flyte.TPU("V5P", "2x2x1")),
    "neuron": flyte.Resources(gpu=flyte.Neuron("Trn2")),
    "neuron_string": flyte.Resources(gpu="Inf2:3"),
    "amd": flyte.Resources(gpu=flyte.AMD_GPU("MI300X")),
    "gaudi": flyte.Resources(gpu=flyte.HABANA_GAUDI("Gaudi1")),
    "device": flyte.Resources(gpu=flyte.Device(3, "GPU", "my-own-card", "half")),
    "metal": flyte.Resources(memory="16Gi", gpu="AppleSilicon"),
}
count, zero, named, shared, partition, partition80, h200, tpu, neuron, neuron_string, amd, gaudi, device, metal = (
    flyte.TaskEnvironment(name=f"accelerator_{name}", resources=resources) for name, resources in REQUESTS.items()
)


@count.task
def on_count() -> int:
    return 1


@zero.task
def on_zero() -> int:
    return 1


@named.task
def on_named() -> int:
    return 1


@shared.task
def on_shared() -> int:
    return 1


@partition.task
def on_partition() -> int:
    return 1


@partition80.task
def on_partition80() -> int:
    return 1


@h200.task
def on_h200() -> int:
    return 1


@tpu.task
def on_tpu() -> int:
    return 1


@neuron.task
def on_neuron() -> int:
    return 1


@neuron_string.task
def on_neuron_string() -> int:
    return 1


@amd.task
def on_amd() -> int:
    return 1


@gaudi.task
def on_gaudi() -> int:
    return 1


@device.task
def on_device() -> int:
    return 1


@metal.task
def on_metal() -> int:
    return 1
