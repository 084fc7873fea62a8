# Decides whether the CUDA backend is built, and with which nvcc. An nvcc that is there and cannot be used is an error, never a silent
# build without CUDA.
#   FKDA_CUDA        ON: needed.   OFF: left out.   AUTO: built if an nvcc is found.
#   FKDA_WITH_CUDA   TRUE or FALSE
#   FKDA_CUDA_TEXT   one line for people: what was found, or why the backend is off; part of fkda_build_info()
#   FKDA_NVCC        the command: a program, then its options; CMake's language CUDA is enabled with it
#   fkda_cuda_code, fkda_cuda_kernel   how CUDA sources are compiled
set(FKDA_OLDEST_CUDA 12.9)    # docs/decisions/0003
set(FKDA_CUDA_ARCHITECTURES 80 86 89 90a 100 103 120)    # of all kernels: what nvcc must know; each names its own in fkda_cuda_kernel
string(TOUPPER "${FKDA_CUDA}" choice)
if(choice MATCHES "^(ON|1|TRUE|YES|Y)$")
  set(choice ON)
elseif(choice MATCHES "^(OFF|0|FALSE|NO|N)$")
  set(choice OFF)
elseif(NOT choice STREQUAL "AUTO")
  message(FATAL_ERROR "flashkda: FKDA_CUDA is \"${FKDA_CUDA}\", but must be AUTO, ON (1, TRUE, YES, Y) or OFF (0, FALSE, NO, N)")
endif()

# Ends with one sentence, and forgets this nvcc: the next run searches anew.
function(fkda_refuse_nvcc why)
  list(JOIN FKDA_NVCC " " command)
  foreach(name FKDA_NVCC CUDAToolkit_NVCC_EXECUTABLE CUDAToolkit_BIN_DIR CUDA_CUDART CUDA_cudart_static_LIBRARY)
    unset(${name} CACHE)
  endforeach()
  message(FATAL_ERROR "flashkda: ${command} ${why}; mend that, name another nvcc in CUDACXX, or build without CUDA: -DFKDA_CUDA=OFF "
                      "(pip: -C cmake.define.FKDA_CUDA=OFF)")
endfunction()

# Sets FKDA_NVCC if it can: the CUDA compiler and its C++ compiler that CMake or the environment name, as with CMake's own CUDA language,
# or nvcc from the PATH or from the toolkit's default folder, which is often not on the PATH.
function(fkda_find_nvcc)
  if(FKDA_NVCC)
    return()
  endif()
  set(asked "${CMAKE_CUDA_COMPILER}")
  if(NOT asked)
    set(asked "$ENV{CUDACXX}")
  endif()
  if(asked)
    set(command "${asked}")
    if(NOT EXISTS "${asked}")    # a name on the PATH, or a command with options
      separate_arguments(command UNIX_COMMAND PROGRAM SEPARATE_ARGS "${asked}")
    endif()
    if(NOT command)
      message(FATAL_ERROR "flashkda: the CUDA compiler is to be \"${asked}\" (CMAKE_CUDA_COMPILER or CUDACXX), but there is no such program")
    endif()
  else()
    find_program(nvcc nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin NO_CACHE)
    if(NOT nvcc)
      return()
    endif()
    set(command ${nvcc})
  endif()
  if(CMAKE_CUDA_HOST_COMPILER)
    list(APPEND command -ccbin ${CMAKE_CUDA_HOST_COMPILER})
  elseif(NOT "$ENV{CUDAHOSTCXX}" STREQUAL "")
    list(APPEND command -ccbin $ENV{CUDAHOSTCXX})
  endif()
  set(FKDA_NVCC ${command} CACHE STRING "nvcc and its options")
endfunction()

# The options of nvcc that compile for some architectures: machine code, no PTX.
function(fkda_gencode result)
  list(TRANSFORM ARGN REPLACE "(.+)" "-gencode=arch=compute_\\1,code=sm_\\1" OUTPUT_VARIABLE options)
  set(${result} ${options} PARENT_SCOPE)
endfunction()

# Compiles one empty kernel as the kernels are compiled: the toolkit is whole, knows the architectures, and accepts the C++ compiler behind it.
function(fkda_try_nvcc)
  set(key "${FKDA_NVCC} ${FKDA_CUDA_VERSION}")
  if("${FKDA_NVCC_TRIED}" STREQUAL "${key}")
    return()
  endif()
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles/fkda_nvcc)
  fkda_gencode(gencode ${FKDA_CUDA_ARCHITECTURES})
  file(WRITE ${folder}/try.cu "#include <cuda.h>\n#include <cuda_runtime.h>\n#include <cstdint>\n__global__ void empty() {}\n")
  execute_process(COMMAND ${FKDA_NVCC} ${gencode} -std=c++20 -c try.cu -o try.o WORKING_DIRECTORY ${folder} RESULT_VARIABLE result
                  OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    file(WRITE ${folder}/try.log "${output}\n${result}\n")
    string(STRIP "${output}" output)
    if(NOT output MATCHES "[^\n]*([Ee]rror|fatal)[^\n]*" AND NOT output MATCHES "^[^\n]+")    # the line that tells why, or the first
      set(CMAKE_MATCH_0 "exit status ${result}")
    endif()
    fkda_refuse_nvcc("cannot compile an empty kernel (${CMAKE_MATCH_0}; all of it is in ${folder}/try.log)")
  endif()
  set(FKDA_NVCC_TRIED "${key}" CACHE INTERNAL "")
endfunction()

set(FKDA_WITH_CUDA FALSE)
if(choice STREQUAL "OFF")
  set(FKDA_CUDA_TEXT "CUDA off: FKDA_CUDA=OFF")
else()
  fkda_find_nvcc()
  if(FKDA_NVCC)
    set(FKDA_WITH_CUDA TRUE)
  elseif(choice STREQUAL "AUTO")
    set(FKDA_CUDA_TEXT "CUDA off: no CUDA toolkit found (nvcc)")
  else()
    message(FATAL_ERROR "flashkda: FKDA_CUDA=${FKDA_CUDA}, but no CUDA toolkit was found: put nvcc on the PATH or name it in CUDACXX")
  endif()
endif()

if(FKDA_WITH_CUDA)
  set(printed "")
  execute_process(COMMAND ${FKDA_NVCC} --version OUTPUT_VARIABLE printed ERROR_QUIET)
  if(NOT printed MATCHES "release [0-9.]+, V([0-9.]+)")
    fkda_refuse_nvcc("does not tell its version as nvcc does")
  endif()
  set(FKDA_CUDA_VERSION ${CMAKE_MATCH_1})
  if(FKDA_CUDA_VERSION VERSION_LESS FKDA_OLDEST_CUDA)
    fkda_refuse_nvcc("is of CUDA ${FKDA_CUDA_VERSION}, but the kernels need ${FKDA_OLDEST_CUDA} or later")
  endif()
  fkda_try_nvcc()
  list(GET FKDA_NVCC 0 program)
  set(CUDAToolkit_NVCC_EXECUTABLE ${program} CACHE FILEPATH "")    # the headers and libraries of this nvcc and of no other
  find_package(CUDAToolkit QUIET)
  if(NOT TARGET CUDA::cudart_static)
    fkda_refuse_nvcc("has no static CUDA runtime (libcudart_static.a) beside it")
  endif()
  # Machine code for many architectures, small: a quarter or less. What it is packed with, drivers before CUDA 12.4 cannot read.
  set(FKDA_CUDA_PACKING $<$<VERSION_GREATER_EQUAL:${FKDA_CUDA_VERSION},13>:--compress-mode=size>)
  list(JOIN FKDA_CUDA_ARCHITECTURES " sm_" named)
  set(FKDA_CUDA_TEXT "CUDA ${FKDA_CUDA_VERSION} sm_${named}")

  # The language CUDA, by this nvcc. The type of build adds nothing: the machine code is the same in all of them.
  set(options ${FKDA_NVCC})
  list(POP_FRONT options CMAKE_CUDA_COMPILER)
  list(FIND options -ccbin at)
  if(NOT at EQUAL -1)
    list(REMOVE_AT options ${at})
    list(GET options ${at} CMAKE_CUDA_HOST_COMPILER)
    list(REMOVE_AT options ${at})
  endif()
  list(JOIN options " " CMAKE_CUDA_COMPILER_ARG1)
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  enable_language(CUDA)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)    # CMake 3.25 does not know it
  foreach(config DEBUG RELEASE RELWITHDEBINFO MINSIZEREL)
    set(CMAKE_CUDA_FLAGS_${config} "")
  endforeach()
endif()
message(STATUS "flashkda: ${FKDA_CUDA_TEXT}")

# The CUDA sources of a target are compiled for some architectures, and as PTX for what comes later, with the options that all CUDA code here has.
function(fkda_cuda_code target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "ARCHITECTURES;PTX")
  foreach(architecture IN LISTS arg_ARCHITECTURES)
    if(NOT architecture IN_LIST FKDA_CUDA_ARCHITECTURES)
      message(FATAL_ERROR "flashkda: ${target} is for sm_${architecture}, which cmake/FkdaCuda.cmake (FKDA_CUDA_ARCHITECTURES) does not list")
    endif()
  endforeach()
  fkda_gencode(gencode ${arg_ARCHITECTURES})
  foreach(architecture IN LISTS arg_PTX)
    list(APPEND gencode -gencode=arch=compute_${architecture},code=compute_${architecture})
  endforeach()
  set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES OFF CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${gencode};-O3;${FKDA_CUDA_PACKING};$<$<BOOL:${FKDA_CUDA_LINEINFO}>:-lineinfo>>")
endfunction()

# fkda_cuda_kernel(name ARCHITECTURES 90a... [PTX 80] SOURCES file.cu... file.c...): one kernel's folder, host side included.
#   <name>            the C sources              FKDA_CUDA_OBJECTS, a property of it: its CUDA sources, compiled
#   <name>_compiled   the CUDA sources
# To what links them, the CUDA objects are files of no language: the library stays a C library, without the C++ runtime, and so do its users.
function(fkda_cuda_kernel name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "ARCHITECTURES;PTX;SOURCES")
  set(cuda_sources ${arg_SOURCES})
  list(FILTER cuda_sources INCLUDE REGEX "\\.cu$")
  list(REMOVE_ITEM arg_SOURCES ${cuda_sources})
  fkda_folder(${name} USES fkda_core fkda_cuda_backend NEEDS CUDA::cudart_static SOURCES ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src/cuda)

  add_library(${name}_compiled OBJECT ${cuda_sources})
  set_target_properties(${name}_compiled PROPERTIES POSITION_INDEPENDENT_CODE ON CUDA_VISIBILITY_PRESET hidden)
  target_include_directories(${name}_compiled PRIVATE ${PROJECT_SOURCE_DIR}/src/cuda)
  target_compile_options(${name}_compiled PRIVATE -Xcompiler=-fno-exceptions,-fno-rtti,-fno-threadsafe-statics)
  target_link_libraries(${name}_compiled PRIVATE fkda_warnings)
  fkda_cuda_code(${name}_compiled ARCHITECTURES ${arg_ARCHITECTURES} PTX ${arg_PTX})

  list(TRANSFORM cuda_sources REPLACE "(.+)" "${CMAKE_CURRENT_BINARY_DIR}/\\1.o" OUTPUT_VARIABLE objects)
  add_custom_command(OUTPUT ${objects} DEPENDS ${name}_compiled $<TARGET_OBJECTS:${name}_compiled> VERBATIM COMMAND_EXPAND_LISTS
                     COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_OBJECTS:${name}_compiled> ${CMAKE_CURRENT_BINARY_DIR})
  add_custom_target(${name}_objects DEPENDS ${objects})
  add_dependencies(fkda_objects ${name}_objects)
  set_property(TARGET fkda_objects APPEND PROPERTY INTERFACE_SOURCES ${objects})
  set_target_properties(${name} PROPERTIES FKDA_CUDA_OBJECTS "${objects}")
endfunction()
