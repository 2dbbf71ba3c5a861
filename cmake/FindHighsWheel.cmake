# Finds HiGHS inside the `highsbox` wheel of SHARDWISE_PYTHON, or on the system, and defines
# Highs::highs. The wheel is built with the old C++ ABI: use only interfaces/highs_c_api.h.

shardwise_find_python_package(_highs_folder highsbox)
find_path(HIGHS_INCLUDE_DIR interfaces/highs_c_api.h
          HINTS ${_highs_folder}/highs_dist/include/highs PATH_SUFFIXES highs)
find_library(HIGHS_LIBRARY highs HINTS ${_highs_folder}/highs_dist/lib
                                       ${_highs_folder}/highs_dist/lib64)
mark_as_advanced(HIGHS_INCLUDE_DIR HIGHS_LIBRARY)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(HighsWheel REQUIRED_VARS HIGHS_LIBRARY HIGHS_INCLUDE_DIR)

if(HighsWheel_FOUND AND NOT TARGET Highs::highs)
  add_library(Highs::highs INTERFACE IMPORTED)
  target_include_directories(Highs::highs SYSTEM INTERFACE ${HIGHS_INCLUDE_DIR})
  target_link_libraries(Highs::highs INTERFACE ${HIGHS_LIBRARY})
endif()
