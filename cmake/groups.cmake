# How builds stay short. Most of a compiler's time passes in the headers of libraries and in the same
# templates made again for every file, so common headers are precompiled (precompiled.h), and files
# of a folder are compiled in groups, which batches.py forms such that no file sees what another
# keeps to itself. The groups are formed anew at each build when a source has changed.
#
# A file still includes what it needs itself: tests/checks/includes.py proves it on every run.
option(DATACLOUD_GROUPS "Compile the files of a folder in groups, with common headers precompiled" ON)
# Lines of a group at most: what a change of one file compiles again.
set(DATACLOUD_GROUP_LINES 1000 CACHE STRING "Lines of a group of files at most")
# With options of their own, or nothing but a library's code.
set(DATACLOUD_APART "/(leveldb_env|asio|mark_kernels[a-z0-9_]*|png_decoder|tiff_codec|metadata_format_test|checkpoint_format_test|log_entry_test|quorum_rules_test|audit_tag_test|read_ahead_test)\\.cc$")

# Into the variable `result`: what a target is compiled from instead of the given files.
function(group_sources result name)
  if(NOT DATACLOUD_GROUPS)
    set(${result} ${ARGN} PARENT_SCOPE)
    return()
  endif()
  set(apart ${ARGN})
  list(FILTER apart INCLUDE REGEX "${DATACLOUD_APART}")
  set(files ${ARGN})
  list(FILTER files EXCLUDE REGEX "${DATACLOUD_APART}")
  if(NOT files)
    set(${result} ${apart} PARENT_SCOPE)
    return()
  endif()
  set(script ${CMAKE_SOURCE_DIR}/cmake/batches.py)
  set(directory ${CMAKE_BINARY_DIR}/groups/${name})
  execute_process(COMMAND ${Python3_EXECUTABLE} ${script} first ${DATACLOUD_GROUP_LINES} ${directory} ${files}
                  OUTPUT_VARIABLE groups COMMAND_ERROR_IS_FATAL ANY)
  add_custom_command(OUTPUT ${groups} DEPENDS ${script} ${files} VERBATIM
    COMMENT "Forming groups of ${name}"
    COMMAND ${Python3_EXECUTABLE} ${script} again ${DATACLOUD_GROUP_LINES} ${directory} ${files})
  set(${result} ${groups} ${apart} PARENT_SCOPE)
endfunction()

# One precompiled header for each set of options; `library` links what its headers need.
function(add_precompiled_header name header)
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/groups/${name}.cc CONTENT "// Nothing but headers.\n")
  add_library(${name} OBJECT ${CMAKE_BINARY_DIR}/groups/${name}.cc)
  target_link_libraries(${name} PRIVATE ${ARGN})
  add_dependencies(${name} datacloud_proto_headers)
  # Not by its path, so that ccache finds the same words in every checkout.
  target_precompile_headers(${name} PRIVATE <cmake/${header}>)
  if(CMAKE_CXX_COMPILER_LAUNCHER)
    set_target_properties(${name} PROPERTIES CXX_COMPILER_LAUNCHER
                          "${CMAKE_SOURCE_DIR}/cmake/fresh_header.sh;${CMAKE_CXX_COMPILER_LAUNCHER}")
  endif()
endfunction()

function(use_precompiled_header name)
  if(DATACLOUD_GROUPS)
    foreach(target ${ARGN})
      target_precompile_headers(${target} REUSE_FROM ${name})
    endforeach()
  endif()
endfunction()
