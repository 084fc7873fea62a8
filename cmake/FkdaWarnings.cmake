# fkda_warnings: what every target of this project is compiled with.
add_library(fkda_warnings INTERFACE)
target_compile_options(fkda_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Wpedantic;-Wconversion;-Wshadow;-Wstrict-prototypes;-Wmissing-prototypes>)
option(FKDA_WERROR "warnings are errors" OFF)
if(FKDA_WERROR)
  target_compile_options(fkda_warnings INTERFACE $<$<COMPILE_LANGUAGE:C>:-Werror>)
endif()
# The same bits on every machine: no contraction that the source does not ask for. Never -ffast-math.
target_compile_options(fkda_warnings INTERFACE $<$<COMPILE_LANGUAGE:C>:-ffp-contract=off>)
if(FKDA_SANITIZE)
  target_compile_options(fkda_warnings INTERFACE $<$<COMPILE_LANGUAGE:C>:-fsanitize=${FKDA_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g>)
  target_link_options(fkda_warnings INTERFACE -fsanitize=${FKDA_SANITIZE})
endif()
