# cmake --install: the shared library, the header, find_package(flashkda), pkg-config.
include(CMakePackageConfigHelpers)
set(FKDA_CONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/flashkda)
install(TARGETS flashkda EXPORT flashkda-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/flashkda.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT flashkda-targets NAMESPACE flashkda:: DESTINATION ${FKDA_CONFIG_DIR})
configure_package_config_file(cmake/flashkda-config.cmake.in flashkda-config.cmake INSTALL_DESTINATION ${FKDA_CONFIG_DIR})
write_basic_package_version_file(flashkda-config-version.cmake COMPATIBILITY SameMinorVersion)
# relative, so that `cmake --install --prefix` and a moved folder work
file(RELATIVE_PATH FKDA_PC_TO_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/flashkda.pc.in flashkda.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/flashkda-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/flashkda-config-version.cmake
        DESTINATION ${FKDA_CONFIG_DIR})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/flashkda.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
