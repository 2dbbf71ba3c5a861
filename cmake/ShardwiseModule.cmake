# shardwise_module(NAME DEPENDS target...) turns src/NAME/*.cc into targets:
#
#   shardwise_NAME   static library: all sources without one of the endings below
#                    (an INTERFACE library while the module has only headers)
#   NAME_test        *_test.cc with GoogleTest; one ctest entry `NAME_test`, label `unit`
#   shardwise_NAME_testing   *_testing.cc: helpers for the tests of this module and of those that
#                    depend on it directly
#   NAME_bench       *_bench.cc with Google Benchmark, if that is installed
#   FILE_fuzz        one per *_fuzz.cc: replays tests/fuzz/FILE/ as a ctest, label `unit`; with
#                    SHARDWISE_FUZZ=ON a libFuzzer binary instead
#
# DEPENDS spells the arrows of docs/architecture.md; they are public.

set(SHARDWISE_DATA_DEFAULT ${CMAKE_SOURCE_DIR}/../shared/data)

# Environment of every test: SHARDWISE_DATA (kept if the caller has set it) holds measurements made
# by others, SHARDWISE_SOURCE the checkout.
function(shardwise_test_properties test)
  set(data ${SHARDWISE_DATA_DEFAULT})
  if(DEFINED ENV{SHARDWISE_DATA})
    set(data $ENV{SHARDWISE_DATA})
  endif()
  set_property(
    TEST ${test}
    APPEND
    PROPERTY ENVIRONMENT
             SHARDWISE_DATA=${data}
             SHARDWISE_SOURCE=${CMAKE_SOURCE_DIR}
             SHARDWISE_BINARY=${CMAKE_BINARY_DIR}/shardwise
             SHARDWISE_RUNTIME=$<BOOL:${SHARDWISE_RUNTIME}>
             SHARDWISE_MPIRUN=${MPIRUN_PROGRAM}
             SHARDWISE_PYTHON=${SHARDWISE_PYTHON}
             TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/scripts/tsan.supp
             LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/scripts/lsan.supp
             UBSAN_OPTIONS=print_stacktrace=1)
  if(SHARDWISE_SANITIZE MATCHES thread)
    # UCX, which comes with Open MPI, takes a lock inside madvise() while a thread ends, when the race
    # detector has already dropped that thread's state.
    # libgomp, whose teams libtorch's kernels use, is not instrumented: its barriers are invisible. Ranks run
    # their kernels on one thread anyway.
    set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT UCX_MEM_EVENTS=n OMP_NUM_THREADS=1)
  endif()
endfunction()

# One fuzz target per *_fuzz.cc of the module.
function(shardwise_fuzz_targets name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_fuzz.cc)
  foreach(source ${sources})
    get_filename_component(target ${source} NAME_WE)
    string(REGEX REPLACE "_fuzz$" "" corpus ${target})
    add_executable(${target} ${source})
    target_link_libraries(${target} PRIVATE shardwise_${name} shardwise_warnings)
    if(SHARDWISE_FUZZ)
      target_link_options(${target} PRIVATE -fsanitize=fuzzer)
      set_property(GLOBAL APPEND PROPERTY SHARDWISE_FUZZERS ${target})
    else()
      target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.cc)
      add_test(NAME ${target} COMMAND ${target} ${CMAKE_SOURCE_DIR}/tests/fuzz/${corpus})
      set_tests_properties(${target} PROPERTIES LABELS unit TIMEOUT 120)
      shardwise_test_properties(${target})
    endif()
  endforeach()
endfunction()

function(shardwise_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "DEPENDS")
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  file(GLOB helpers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_testing.cc)
  file(GLOB benches CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_bench.cc)
  # A module may keep one sub-folder level (src/planner/methods/).
  file(GLOB nested CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*/*.cc)
  foreach(source ${nested})
    if(source MATCHES "_test\\.cc$")
      list(APPEND tests ${source})
    elseif(source MATCHES "_testing\\.cc$")
      list(APPEND helpers ${source})
    elseif(source MATCHES "_bench\\.cc$")
      list(APPEND benches ${source})
    else()
      list(APPEND sources ${source})
    endif()
  endforeach()
  list(FILTER sources EXCLUDE REGEX "(_(test|testing|bench|fuzz)|/main)\\.cc$")

  set(library shardwise_${name})
  if(sources)
    add_library(${library} STATIC ${sources})
    target_include_directories(${library} PUBLIC ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(${library} PUBLIC ${arg_DEPENDS} PRIVATE shardwise_warnings)
  else()
    add_library(${library} INTERFACE)
    target_include_directories(${library} INTERFACE ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(${library} INTERFACE ${arg_DEPENDS})
  endif()

  shardwise_fuzz_targets(${name})
  if(SHARDWISE_FUZZ)
    return()
  endif()

  if(helpers)
    add_library(${library}_testing STATIC ${helpers})
    target_link_libraries(${library}_testing PUBLIC ${library} GTest::gmock
                                             PRIVATE shardwise_warnings)
  endif()
  if(tests)
    add_executable(${name}_test ${tests})
    foreach(friend ${library} ${arg_DEPENDS})
      if(TARGET ${friend}_testing)
        target_link_libraries(${name}_test PRIVATE ${friend}_testing)
      endif()
    endforeach()
    target_link_libraries(${name}_test PRIVATE ${library} shardwise_warnings GTest::gmock
                                               GTest::gmock_main)
    add_test(NAME ${name}_test COMMAND ${name}_test)
    set_tests_properties(${name}_test PROPERTIES LABELS unit TIMEOUT ${SHARDWISE_TEST_LIMIT})
    shardwise_test_properties(${name}_test)
  endif()
  if(benches AND benchmark_FOUND)
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE ${library} shardwise_warnings benchmark::benchmark
                                                benchmark::benchmark_main)
  endif()
endfunction()
