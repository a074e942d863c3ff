"""The runtime: one preprocessing, engines that run networks, choice of device and precision."""
