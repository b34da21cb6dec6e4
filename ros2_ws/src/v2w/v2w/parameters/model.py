"""The parameters that every node with a model has, and those of world_model_node."""

from __future__ import annotations

from v2w.parameters.parameter import TOPIC, Parameter

COMMON = (
    Parameter("checkpoint", "", "", "Folder of the checkpoint.", fixed=True),
    Parameter("device", "auto", "", "PyTorch device: auto, cpu, cuda, cuda:1.", fixed=True),
    Parameter(
        "backend", "eager", "",
        "Back end that computes rollouts. auto takes the fastest that can be built; the log says "
        "which one that is.",
        choices=("auto", "tensorrt", "tensorrt-rtx", "torch", "onnx", "eager"), fixed=True,
    ),
    Parameter(
        "precision", "fp32", "",
        "Precision of rollouts; not every back end supports every precision.",
        choices=("fp32", "fp16", "bf16"), fixed=True,
    ),
    Parameter(
        "strict_backend", False, "",
        "If true, the node refuses to configure when device, backend or precision is not "
        "available, and answers with errors when the device is lost. If false, the next back end "
        "takes over, with a warning.", fixed=True,
    ),
    Parameter(
        "memory_budget_mib", 0, "MiB",
        "Memory that a rollout may take; 0 for what the device has free.",
        0, 2**20, fixed=True,
    ),
    Parameter(
        "max_waiting_requests", 8, "requests",
        "How many requests may wait for their turn; one more is answered BUSY.", 0, 64, fixed=True,
    ),
    Parameter(
        "max_waiting_time", 60.0, "s",
        "How long a request may wait for its turn; then it is answered TIMEOUT.", 0.1, 3600.0,
    ),
    Parameter(
        "num_threads", 0, "threads", "CPU threads of the model; 0 leaves the number to PyTorch.",
        0, 256, fixed=True,
    ),
    Parameter(
        "autostart", True, "",
        "If true, the node configures and activates itself, without a lifecycle manager.",
        fixed=True,
    ),
    Parameter(
        "image_transport", "auto", "",
        "Transport of the camera images: raw, compressed (image_topic + /compressed), or auto for "
        "the one that has a publisher.",
        choices=("auto", "raw", "compressed"), fixed=True,
    ),
    Parameter(
        "image_topic", "image_raw", "", "Topic of the camera images.", fixed=True, kind=TOPIC
    ),
    Parameter(
        "odom_topic", "odom", "", "Topic of the body's odometry (nav_msgs/Odometry).", fixed=True,
        kind=TOPIC,
    ),
    Parameter(
        "queue_depth", 30, "messages",
        "Camera and odometry messages that are queued while the node is busy.",
        1, 1000, fixed=True,
    ),
    Parameter(
        "buffer_duration", 3.0, "s", "How long camera and odometry messages are kept.",
        0.5, 60.0, fixed=True,
    ),
    Parameter(
        "buffer_mib", 256, "MiB",
        "Memory of the camera messages that are kept as they came; past it the oldest are resized "
        "to the model's size, and left out where frames lie close together.", 1, 2**20, fixed=True,
    ),
    Parameter(
        "max_history_age", 1.0, "s",
        "A history whose newest frame is older than this is stale; requests are refused.",
        0.05, 60.0, fixed=True,
    ),
    Parameter(
        "frame_tolerance", 0.4, "steps",
        "How far a frame may lie from its place on the model's time grid.",
        0.01, 0.5, fixed=True,
    ),
    Parameter(
        "jpeg_quality", 90, "", "Quality of JPEG frames in answers, when a request names none.",
        1, 100,
    ),
    Parameter(
        "max_candidates", 1024, "candidates",
        "Largest number of action sequences in one request.", 1, 100000,
    ),
    Parameter(
        "max_horizon", 64, "steps", "Largest length of an action sequence in a request.", 1, 1000
    ),
    Parameter(
        "status_period", 1.0, "s", "Time between two messages of ~/status and /diagnostics.",
        0.05, 60.0, fixed=True,
    ),
)  # fmt: skip

WORLD_MODEL = (
    *COMMON,
    Parameter(
        "warm_up_candidates", 8, "candidates",
        "Requests of up to this many candidates are prepared while the node configures, so that "
        "the first one is as fast as later ones.", 1, 4096, fixed=True,
    ),
    Parameter(
        "max_request_time", 120.0, "s",
        "A request that would take longer is refused; the time is estimated from the trial "
        "rollouts, for candidates x horizon x sampling steps.", 0.1, 86400.0,
    ),
    Parameter(
        "max_answer_mib", 128, "MiB",
        "A request whose frames could be larger is refused before it begins.", 1, 4096,
    ),
)  # fmt: skip
