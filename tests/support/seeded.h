// Randomness of a test: a new seed every run, printed, and taken from DATACLOUD_SEED to repeat one.
#pragma once

#include <cstdlib>
#include <iostream>
#include <random>

#include "common/base/bytes.h"

namespace datacloud {

class Seeded {
 public:
  Seeded() {
    const char* given = std::getenv("DATACLOUD_SEED");
    const uint64_t seed =
        given != nullptr ? std::strtoull(given, nullptr, 10) : uint64_t{std::random_device{}()};
    std::cout << "DATACLOUD_SEED=" << seed << std::endl;
    engine_.seed(seed);
  }
  // Uniform in [low, high].
  uint64_t number(uint64_t low, uint64_t high) {
    return std::uniform_int_distribution<uint64_t>(low, high)(engine_);
  }
  Bytes bytes(size_t length) {
    Bytes out(length);
    for (auto& b : out) b = static_cast<uint8_t>(engine_() >> 24);
    return out;
  }
  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace datacloud
