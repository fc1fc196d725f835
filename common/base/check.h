// Invariants that the program must not outlive: DC_CHECK(condition) and DC_CHECK(condition, text).
//
// For what only a fault of ours can break, where going on would carry the fault to the disk, to a
// peer or to another thread. It holds in every build. What a disk, a peer or a user can cause is no
// invariant: that is an error and is answered with one.
//
// A failed check logs the place, the condition and the text, and aborts: the core dump shows the
// state that was wrong, and what was durable stays as it was. The text is made only then: it may be
// any expression that makes a string. Cheap conditions only: they stand on hot paths.
#pragma once

#include <string>
#include <string_view>

namespace datacloud {

// From any thread.
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& text = {});

}  // namespace datacloud

#define DC_CHECK(condition, ...)                                                            \
  do {                                                                                      \
    if (!(condition)) [[unlikely]] {                                                        \
      ::datacloud::check_failed(__FILE__, __LINE__, #condition __VA_OPT__(, ) __VA_ARGS__); \
    }                                                                                       \
  } while (false)
