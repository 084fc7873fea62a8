# What the scripts of this folder share.
function(run)    # stops at the first command that fails; `printed` is what the last one printed
  execute_process(COMMAND ${ARGV} OUTPUT_VARIABLE output ERROR_VARIABLE errors RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\nended with ${result}\n${output}${errors}")
  endif()
  set(printed "${output}" PARENT_SCOPE)
endfunction()

function(check_program program)
  run(${program})
  if(NOT printed MATCHES "^flashkda ${VERSION}, (cuda|cpu|ref): ")
    message(FATAL_ERROR "${program} printed: ${printed}")
  endif()
  message(STATUS "${printed}")
endfunction()
