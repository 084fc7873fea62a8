# cmake -DLIBRARY=libflashkda.so -DMOST=12000000 -P check_size.cmake: prints the file's size; it may not be above MOST bytes.
file(REAL_PATH ${LIBRARY} file)
file(SIZE ${file} bytes)
message(STATUS "${file}: ${bytes} bytes, at most ${MOST}")
if(bytes GREATER MOST)
  message(FATAL_ERROR "${file} has ${bytes} bytes, more than ${MOST}: what was added, and is it compiled for architectures that need it?")
endif()
