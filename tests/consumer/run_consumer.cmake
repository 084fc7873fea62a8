# cmake -P: installs the build, moves it, and uses it as people do. Variables as in CMakeLists.txt beside this file.
cmake_minimum_required(VERSION 3.22)
include(${CMAKE_CURRENT_LIST_DIR}/commands.cmake)
set(prefix ${WORK}/prefix)
if(SANITIZE)
  set(flags -fsanitize=${SANITIZE})
endif()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/first)
file(RENAME ${WORK}/first ${prefix})

# What is there: each file in its standard folder, and one header alone.
file(GLOB_RECURSE headers RELATIVE ${prefix}/include ${prefix}/include/*)
if(NOT headers STREQUAL "flashkda.h")
  message(FATAL_ERROR "installed headers: ${headers}")
endif()
set(expected ${LIBDIR}/${LIBRARY} ${LIBDIR}/cmake/flashkda/flashkda-config.cmake ${LIBDIR}/pkgconfig/flashkda.pc ${DOCDIR}/LICENSE)
if(CLI)
  list(APPEND expected bin/flashkda ${MANDIR}/man1/flashkda.1 ${DATADIR}/bash-completion/completions/flashkda
       ${DATADIR}/zsh/site-functions/_flashkda ${DATADIR}/fish/vendor_completions.d/flashkda.fish)
  run(${prefix}/bin/flashkda info)
endif()
foreach(file ${expected})
  if(NOT EXISTS ${prefix}/${file})
    file(GLOB_RECURSE found RELATIVE ${prefix} ${prefix}/*)
    message(FATAL_ERROR "${file} is not installed; what is: ${found}")
  endif()
endforeach()

# By CMake.
run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${SOURCE}/outside -B ${WORK}/by-cmake -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_C_COMPILER=${CC}
    "-DCMAKE_C_FLAGS=${flags}")
run(${CMAKE_COMMAND} --build ${WORK}/by-cmake)
check_program(${WORK}/by-cmake/outside)

# By pkg-config and make, and each example by the command in its first line.
if(NOT PKG_CONFIG OR NOT MAKE)
  message(STATUS "no pkg-config or make: the other consumers were not built")
  return()
endif()
set(ENV{PKG_CONFIG_PATH} ${prefix}/${LIBDIR}/pkgconfig)
set(ENV{LD_LIBRARY_PATH} ${prefix}/${LIBDIR})
file(COPY ${SOURCE}/outside DESTINATION ${WORK})
file(RENAME ${WORK}/outside ${WORK}/by-make)
if(STATIC)
  set(PKG_CONFIG "${PKG_CONFIG} --static")
endif()
run(${MAKE} -C ${WORK}/by-make CC=${CC} PKG_CONFIG=${PKG_CONFIG} "CFLAGS=${flags} -std=c99 -Wall -Wextra -Wpedantic -Werror")
check_program(${WORK}/by-make/outside)

if(STATIC OR SANITIZE OR WORK MATCHES " ")    # the line is for a shared library as it is released; the shell splits pkg-config's paths at blanks
  return()
endif()
file(COPY ${ROOT}/examples DESTINATION ${WORK})
file(COPY ${ROOT}/data/language_model.safetensors DESTINATION ${WORK}/data)    # that one of them reads
file(GLOB examples ${WORK}/examples/[0-9]*.c)
list(LENGTH examples count)
if(count LESS 3)
  message(FATAL_ERROR "only ${count} examples found in ${ROOT}/examples")
endif()
foreach(example ${examples})
  file(STRINGS ${example} line LIMIT_COUNT 1)
  if(NOT line MATCHES "^/\\* (cc .* && \\./.*)$")
    message(FATAL_ERROR "${example} does not begin with a command: ${line}")
  endif()
  run(sh -c "cd '${WORK}/examples' && ${CMAKE_MATCH_1}")
  message(STATUS "${CMAKE_MATCH_1}\n${printed}")
endforeach()
