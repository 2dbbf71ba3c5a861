# Language level, warnings, sanitizers, compiler cache, linker, and the Python that wheels come from.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
# Line tables only: full debug information of ATen's templates doubles the build time.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
# -O1 keeps the sanitizer builds usable; NDEBUG stays undefined, so SHARDWISE_DCHECK is on.
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1 -fno-omit-frame-pointer")

# Own code only: every third-party include directory is a system one.
add_library(shardwise_warnings INTERFACE)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(shardwise_warnings INTERFACE -Wall -Wextra -Wconversion -Wshadow -Werror)
else()
  target_compile_options(shardwise_warnings INTERFACE -Wall -Wextra -Wshadow)
endif()

if(SHARDWISE_SANITIZE)
  add_compile_options(-fsanitize=${SHARDWISE_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SHARDWISE_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # g++ 12 warns wrongly inside std::string and std::variant once code is instrumented, and about
    # fences that its race detector does not model.
    target_compile_options(
      shardwise_warnings INTERFACE -Wno-maybe-uninitialized -Wno-tsan -Wno-restrict
                                   -Wno-stringop-overflow -Wno-array-bounds)
  endif()
endif()

if(SHARDWISE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

find_program(CCACHE_PROGRAM ccache)
mark_as_advanced(CCACHE_PROGRAM)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers need the sloppiness; the base directory lets sibling build folders share.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CCACHE_PROGRAM})
endif()

find_program(LLD_PROGRAM ld.lld)
mark_as_advanced(LLD_PROGRAM)
if(LLD_PROGRAM)
  add_link_options(-fuse-ld=lld)
endif()

# The Python whose wheels bring torch, MPI and HiGHS: -DSHARDWISE_PYTHON=..., else the checkout's
# .venv, else an activated environment, else python3.
if(NOT SHARDWISE_PYTHON)
  if(EXISTS ${CMAKE_SOURCE_DIR}/.venv/bin/python)
    set(python ${CMAKE_SOURCE_DIR}/.venv/bin/python)
  elseif(DEFINED ENV{VIRTUAL_ENV})
    set(python $ENV{VIRTUAL_ENV}/bin/python)
  else()
    find_program(python python3 NO_CACHE)
  endif()
  set(SHARDWISE_PYTHON ${python} CACHE FILEPATH "Python with the pinned wheels")
endif()

# Sets `result` to the folder of an installed Python package, or to "" if there is none. The package
# is not imported: torch would take seconds.
function(shardwise_find_python_package result package)
  set(folder "")
  if(SHARDWISE_PYTHON)
    execute_process(
      COMMAND
        ${SHARDWISE_PYTHON} -c
        "import importlib.util as u; s = u.find_spec('${package}'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE folder
      OUTPUT_STRIP_TRAILING_WHITESPACE
      ERROR_QUIET)
  endif()
  set(${result} "${folder}" PARENT_SCOPE)
endfunction()
