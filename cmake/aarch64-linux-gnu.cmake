# Toolchain: cross-compiles for aarch64 Linux with Debian's gcc-aarch64-linux-gnu (libc6-dev-arm64-cross); what is built runs under qemu-user.
#     cmake -B build/aarch64 --toolchain cmake/aarch64-linux-gnu.cmake -DFKDA_CUDA=OFF -DFKDA_BUILD_CLI=OFF
# Other libraries (cJSON, cmocka) are looked for where tools/dev/aarch64_root puts them, and nowhere on this machine.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc CACHE STRING "")
set(CMAKE_CXX_COMPILER "" CACHE STRING "")    # C++ is emulated CUDA kernels alone, which are tested on the host
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

get_filename_component(FKDA_AARCH64_ROOT ${CMAKE_CURRENT_LIST_DIR}/../.cache/aarch64/root ABSOLUTE)
set(CMAKE_FIND_ROOT_PATH ${FKDA_AARCH64_ROOT} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(kind LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()
set(ENV{PKG_CONFIG_LIBDIR} ${FKDA_AARCH64_ROOT}/usr/lib/aarch64-linux-gnu/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${FKDA_AARCH64_ROOT})

# The loader and the C library that programs see.
set(prefix /usr/aarch64-linux-gnu)
if(EXISTS ${FKDA_AARCH64_ROOT}/lib)
  set(prefix ${FKDA_AARCH64_ROOT})
endif()
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${prefix} -E FKDA_TEST_QEMU=1)    # tests/cpu/child.h
