# Builds under sanitizers (DATACLOUD_SANITIZE, with clang): tools/test.sh makes two of them on every
# run, so they are made to compile fast. Files are compiled in groups, with common headers
# precompiled, unoptimised, with line tables only; tests of one folder are one program. The target
# `sanitized_tests` is all that tests/checks needs; the programs are there for work by hand.
#
# With address sanitizing the code is instrumented for libFuzzer too, so that the fuzz programs need
# no build of their own.
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "DATACLOUD_SANITIZE needs clang: -DCMAKE_CXX_COMPILER=clang++-14")
endif()
find_package(Python3 REQUIRED COMPONENTS Interpreter)
find_package(GTest REQUIRED)

set(SANITIZE_OPTIONS -fsanitize=${DATACLOUD_SANITIZE} -fno-sanitize-recover=all
    -fno-sanitize=vptr  # LevelDB has no RTTI
    -fsanitize-ignorelist=${CMAKE_SOURCE_DIR}/cmake/sanitizer_ignorelist.txt
    -fno-omit-frame-pointer -g1
    -w)  # g++ is the judge of warnings
set(DATACLOUD_FUZZ OFF)
if(DATACLOUD_SANITIZE MATCHES "address")
  set(DATACLOUD_FUZZ ON)
  list(APPEND SANITIZE_OPTIONS -fsanitize=fuzzer-no-link)
endif()
target_compile_options(datacloud_flags INTERFACE -O0 ${SANITIZE_OPTIONS})
target_compile_definitions(datacloud_flags INTERFACE _GLIBCXX_ASSERTIONS)
target_link_options(datacloud_flags INTERFACE -fsanitize=${DATACLOUD_SANITIZE} -fuse-ld=lld)

# Compiled by themselves, and optimised: most of the tests' time passes in them.
set(hot_pattern "/common/(codes/gf_matrix|codes/packet_kernel|tags/audit_field|tags/audit_kernels|tags/audit_challenge)\\.cc$")

# Ceph 16's headers compare two kinds of iterators, which clang finds ambiguous since C++20: builds
# with clang use a copy that says which comparison is meant.
find_path(RADOS_HEADERS rados/librados.hpp REQUIRED)
set(ceph_headers ${CMAKE_BINARY_DIR}/ceph-headers)
file(COPY ${RADOS_HEADERS}/rados DESTINATION ${ceph_headers})
file(READ ${ceph_headers}/rados/buffer.h text)
string(REPLACE "it == end()" "it == const_iterator(end())" text "${text}")
file(WRITE ${ceph_headers}/rados/buffer.h "${text}")
target_include_directories(datacloud_flags BEFORE INTERFACE ${ceph_headers})

# The sources of `target` are compiled in groups.
function(compile_in_groups target)
  get_target_property(sources ${target} SOURCES)
  list(FILTER sources INCLUDE REGEX "^/")
  foreach(source ${sources})
    get_source_file_property(options ${source} TARGET_DIRECTORY ${target} COMPILE_OPTIONS)
    if(source MATCHES "${hot_pattern}")
      set_source_files_properties(${source} TARGET_DIRECTORY ${target} PROPERTIES
                                  COMPILE_OPTIONS -O2)
    elseif(NOT options AND NOT source MATCHES "/asio.cc$")
      list(APPEND grouped ${source})
      continue()
    endif()
    # With options or macros of its own.
    set_source_files_properties(${source} TARGET_DIRECTORY ${target} PROPERTIES
                                SKIP_PRECOMPILE_HEADERS ON)
  endforeach()
  execute_process(COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/cmake/batches.py ${grouped}
                  OUTPUT_VARIABLE groups COMMAND_ERROR_IS_FATAL ANY)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  while(groups)
    list(POP_FRONT groups group source)
    set_source_files_properties(${source} TARGET_DIRECTORY ${target} PROPERTIES UNITY_GROUP ${group})
  endwhile()
endfunction()

# All tests of a folder as one program; tests/checks runs it.
function(add_sanitized_tests folder)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
  set(name ${folder}_tests)
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  set_property(GLOBAL APPEND PROPERTY SANITIZED_TESTS ${name})
endfunction()

# After all targets are known.
function(finish_sanitized_build)
  get_property(tests GLOBAL PROPERTY SANITIZED_TESTS)
  list(APPEND tests fuzz_targets_test)
  add_custom_target(sanitized_tests DEPENDS ${tests})
  if(DATACLOUD_FUZZ)
    add_dependencies(sanitized_tests fuzz)
  endif()
  file(WRITE ${CMAKE_BINARY_DIR}/precompiled.cc "")
  add_library(precompiled OBJECT ${CMAKE_BINARY_DIR}/precompiled.cc)
  target_link_libraries(precompiled PRIVATE datacloud_flags datacloud_proto fmt::fmt spdlog::spdlog
                        GTest::gmock)
  target_precompile_headers(precompiled PRIVATE ${CMAKE_SOURCE_DIR}/cmake/precompiled.h)
  add_dependencies(precompiled datacloud_proto)
  foreach(target datacloud_common datacloud_daemon datacloud_fs datacloud_tools
                 datacloud_test_support datacloud_fuzz_targets ${tests})
    if(TARGET ${target})
      compile_in_groups(${target})
      target_precompile_headers(${target} REUSE_FROM precompiled)
    endif()
  endforeach()
endfunction()
