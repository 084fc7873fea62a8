// NVRTC brings no C library: <stddef.h> is cstddef.
#include <cstddef>
