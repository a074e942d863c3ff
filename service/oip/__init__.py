"""The Open Inference Protocol (KServe V2, Triton over HTTP): codec, schema of each task, routes at ``/v2``."""
