# flashkda: the library that is installed, from the objects of fkda_objects. BUILD_SHARED_LIBS decides which kind.
#   FKDA_STATIC         TRUE or FALSE
#   FKDA_STATIC_NEEDS   what users of a static one link besides: libm, threads, with CUDA the static CUDA runtime
add_library(flashkda)
add_library(flashkda::flashkda ALIAS flashkda)
target_include_directories(flashkda PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
set_target_properties(flashkda PROPERTIES LINKER_LANGUAGE C VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
get_target_property(kind flashkda TYPE)
string(COMPARE EQUAL ${kind} STATIC_LIBRARY FKDA_STATIC)

if(FKDA_STATIC)
  # An archive holds the objects that it is given, and takes none from what it links.
  get_target_property(FKDA_STATIC_NEEDS fkda_objects INTERFACE_LINK_LIBRARIES)
  list(REMOVE_DUPLICATES FKDA_STATIC_NEEDS)
  target_sources(flashkda PRIVATE $<TARGET_PROPERTY:fkda_objects,INTERFACE_SOURCES>)
  add_dependencies(flashkda fkda_objects)
  target_link_libraries(flashkda PRIVATE ${FKDA_STATIC_NEEDS})
else()
  target_link_libraries(flashkda PRIVATE fkda_objects fkda_warnings)
  target_link_options(flashkda PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/src/flashkda.map)
  set_target_properties(flashkda PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/flashkda.map)
  if(NOT FKDA_SANITIZE)    # clang links a sanitizer's runtime into executables alone
    target_link_options(flashkda PRIVATE -Wl,--no-undefined)
  endif()
endif()
