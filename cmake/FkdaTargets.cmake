# One object library per folder of src/, so that the compiler holds the arrows between folders: a source sees the headers of its own folder and
# of the folders that its target links, no others.
#   fkda_objects   the sum of them, with what they need; the library, the Python extension and the tests link it
add_library(fkda_objects INTERFACE)
target_include_directories(fkda_objects INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>)

# fkda_folder(name SOURCES file... [USES folder-target...] [NEEDS library...])
#   USES    whose headers it includes        NEEDS   what a program with its objects links besides
function(fkda_folder name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;USES;NEEDS")
  add_library(${name} OBJECT ${arg_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${arg_USES} ${arg_NEEDS} PRIVATE fkda_warnings)
  if(BUILD_SHARED_LIBS)
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  endif()
  set_property(TARGET fkda_objects APPEND PROPERTY INTERFACE_SOURCES $<TARGET_OBJECTS:${name}>)
  set_property(TARGET fkda_objects APPEND PROPERTY INTERFACE_LINK_LIBRARIES ${arg_NEEDS})
endfunction()

# What a target of tests/ includes of folders whose objects it has from fkda_objects, or does not need.
function(fkda_sees target)
  foreach(folder IN LISTS ARGN)
    target_include_directories(${target} PUBLIC $<TARGET_PROPERTY:${folder},INTERFACE_INCLUDE_DIRECTORIES>)
  endforeach()
endfunction()
