// One decoder of bytes that peers, sites or people hand us, as libFuzzer and gtest both run it.
//
// run() must return for any bytes at all; it also checks what the decoder promises about what it
// accepts, and aborts when that does not hold.
#pragma once

#include <google/protobuf/stubs/logging.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "common/base/bytes.h"

namespace datacloud::fuzz {

struct FuzzTarget {
  const char* name;
  void (*run)(ByteView);
  std::vector<Bytes> (*seeds)();  // well-formed inputs to start from
  int rounds = 5000;              // of mutations in every build's test: fewer where one is slow
};

// Every NAME_target() of the NAME_target.cc here: the build lists them.
std::vector<FuzzTarget> all_targets();

// assert() that stays in release builds.
inline void require(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

// protobuf reports malformed text fields on stderr; thousands of lines would hide what matters.
inline void silence_protobuf() {
  static const auto before = google::protobuf::SetLogHandler(nullptr);
  (void)before;
}

inline Bytes copy_of(std::string_view text) { return to_bytes(as_bytes(text)); }

}  // namespace datacloud::fuzz
