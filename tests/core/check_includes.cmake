# cmake -DHEADER=flashkda.h -P check_includes.cmake: the public header includes <stddef.h> and <stdint.h> and nothing else.
file(STRINGS ${HEADER} includes REGEX "^[ \t]*#[ \t]*include")
foreach(line ${includes})
  if(NOT line MATCHES "^#include <(stddef|stdint)\\.h>$")
    message(FATAL_ERROR "flashkda.h: ${line}")
  endif()
endforeach()
