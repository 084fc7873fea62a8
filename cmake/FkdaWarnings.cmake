# fkda_warnings: what every target of this project is compiled with.
option(FKDA_WERROR "warnings are errors" OFF)
set(common -Wall -Wextra -Wshadow -Wconversion)
set(c ${common} -Wpedantic -Wstrict-prototypes -Wmissing-prototypes)
list(JOIN common "," host)
set(cuda -Xcompiler=${host})
if(FKDA_WERROR)
  list(APPEND common -Werror)
  list(APPEND c -Werror)
  list(APPEND cuda -Werror=all-warnings -Xcompiler=-Werror)
endif()
add_library(fkda_warnings INTERFACE)
target_compile_options(fkda_warnings INTERFACE "$<$<COMPILE_LANGUAGE:C>:${c}>" "$<$<COMPILE_LANGUAGE:CXX>:${common}>"
                                               "$<$<COMPILE_LANGUAGE:CUDA>:${cuda}>")
# The same bits on every machine: no contraction that the source does not ask for. Never -ffast-math.
target_compile_options(fkda_warnings INTERFACE $<$<COMPILE_LANGUAGE:C>:-ffp-contract=off>)
if(FKDA_SANITIZE)    # -g1: lines for reports; all that -g writes would take a third of the time of compiling
  target_compile_options(fkda_warnings INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${FKDA_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g1>)
  # What a null or a strayed pointer reads AddressSanitizer sees, and these checks of each access cost the emulator a third more, loops of tests
  # half: they are left to the library. C++ is tests alone; targets of C that are tests alone have the property FKDA_IS_TEST.
  set(is_test "$<OR:$<COMPILE_LANGUAGE:CXX>,$<BOOL:$<TARGET_PROPERTY:FKDA_IS_TEST>>>")
  target_compile_options(fkda_warnings INTERFACE "$<$<AND:$<COMPILE_LANGUAGE:C,CXX>,${is_test}>:-fno-sanitize=null,object-size,pointer-overflow>")
  target_link_options(fkda_warnings INTERFACE -fsanitize=${FKDA_SANITIZE})
endif()
