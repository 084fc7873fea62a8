// NVRTC brings no C library: its own functions of these names are there without a header.
