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
  set(kernels ${FKDA_STATIC_NEEDS})
  list(FILTER kernels INCLUDE REGEX "\\.o$")
  list(FILTER FKDA_STATIC_NEEDS EXCLUDE REGEX "\\.o$|^::@|LINK_ONLY")    # "::@": CMake's note of the folder where the next one was named
  list(REMOVE_DUPLICATES FKDA_STATIC_NEEDS)
  target_sources(flashkda PRIVATE $<TARGET_OBJECTS:fkda_objects> ${kernels})
  target_link_libraries(flashkda PRIVATE ${FKDA_STATIC_NEEDS})
else()
  set_target_properties(fkda_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(flashkda PRIVATE fkda_objects fkda_warnings)
  target_link_options(flashkda PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/src/flashkda.map)
  set_target_properties(flashkda PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/flashkda.map)
  if(NOT FKDA_SANITIZE)    # clang links a sanitizer's runtime into executables alone
    target_link_options(flashkda PRIVATE -Wl,--no-undefined)
  endif()
endif()
