// NVRTC brings no C library: cuda.h includes this and uses nothing of it.
