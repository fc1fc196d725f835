# Builds under sanitizers (DATACLOUD_SANITIZE, with clang): made to compile fast. Files are compiled in
# large groups, with common headers precompiled, unoptimised, with line tables only; tests of one folder are one program. The target
# `sanitized_tests` is all that tests/checks needs; the programs are there for work by hand.
#
# With address sanitizing the code is instrumented for libFuzzer too, so that the fuzz programs need
# no build of their own.
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "DATACLOUD_SANITIZE needs clang: -DCMAKE_CXX_COMPILER=clang++-14")
endif()
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

set(DATACLOUD_GROUPS ON)
set(DATACLOUD_GROUP_LINES 2500)
# Compiled by themselves, and optimised: most of the tests' time passes in them.
set(hot_pattern "/common/(codes/gf_matrix|codes/packet_kernel|tags/audit_field|tags/audit_kernels|tags/audit_challenge)\\.cc$")
string(APPEND DATACLOUD_APART "|${hot_pattern}")

# Ceph 16's headers compare two kinds of iterators, which clang finds ambiguous since C++20: builds
# with clang use a copy that says which comparison is meant.
find_path(RADOS_HEADERS rados/librados.hpp REQUIRED)
set(ceph_headers ${CMAKE_BINARY_DIR}/ceph-headers)
file(COPY ${RADOS_HEADERS}/rados DESTINATION ${ceph_headers})
file(READ ${ceph_headers}/rados/buffer.h text)
string(REPLACE "it == end()" "it == const_iterator(end())" text "${text}")
file(WRITE ${ceph_headers}/rados/buffer.h "${text}")
target_include_directories(datacloud_flags BEFORE INTERFACE ${ceph_headers})

# All tests of a folder as one program; tests/checks runs it.
function(add_sanitized_tests folder)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
  set(name ${folder}_tests)
  group_sources(sources ${name} ${arg_SOURCES})
  add_executable(${name} ${sources})
  use_precompiled_header(precompiled ${name})
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
  get_target_property(sources datacloud_common SOURCES)
  list(FILTER sources INCLUDE REGEX "${hot_pattern}")
  set_source_files_properties(${sources} TARGET_DIRECTORY datacloud_common PROPERTIES
                              COMPILE_OPTIONS -O2 SKIP_PRECOMPILE_HEADERS ON)
endfunction()
