// Every fuzz target, run over its seeds and some thousand mutations of them, so that ordinary and
// sanitizer builds exercise the decoders too.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "tests/fuzz/fuzz_target.h"
#include "tests/support/seeded.h"

namespace datacloud::fuzz {
namespace {

void mutate(Bytes& input, const std::vector<Bytes>& seeds, Seeded& random) {
  const size_t at = random.number(0, input.size());
  switch (random.number(0, 6)) {
    case 0:  // flip a bit
      if (at < input.size()) input[at] ^= static_cast<uint8_t>(1u << random.number(0, 7));
      break;
    case 1:  // an interesting byte
      if (at < input.size()) input[at] = std::array<uint8_t, 4>{0, 0x7f, 0x80, 0xff}[at % 4];
      break;
    case 2:
      input.resize(at);
      break;
    case 3: {  // insert
      const Bytes extra = random.bytes(random.number(1, 9));
      input.insert(input.begin() + at, extra.begin(), extra.end());
      break;
    }
    case 4:  // cut a piece out
      input.erase(input.begin() + at,
                  input.begin() + std::min(input.size(), at + random.number(1, 9)));
      break;
    case 5: {  // go on with another seed
      const Bytes& other = seeds[random.number(0, seeds.size() - 1)];
      const size_t from = random.number(0, other.size());
      input.resize(at);
      input.insert(input.end(), other.begin() + from, other.end());
      break;
    }
    default: {  // a large or small number where a length may be
      const uint8_t fill = random.number(0, 1) != 0 ? 0xff : 0;
      std::fill(input.begin() + at, input.begin() + std::min(input.size(), at + 4), fill);
    }
  }
}

class FuzzTargets : public testing::TestWithParam<FuzzTarget> {};

TEST_P(FuzzTargets, ReturnForSeedsAndTheirMutations) {
  const FuzzTarget target = GetParam();
  SCOPED_TRACE(target.name);
  Seeded random;
  const auto seeds = target.seeds();
  ASSERT_FALSE(seeds.empty());
  for (const Bytes& seed : seeds) target.run(seed);
  target.run({});
  for (int round = 0; round < target.rounds; ++round) {
    Bytes input = seeds[random.number(0, seeds.size() - 1)];
    for (uint64_t steps = random.number(1, 4); steps > 0; --steps) mutate(input, seeds, random);
    target.run(input);
  }
}

INSTANTIATE_TEST_SUITE_P(All, FuzzTargets, testing::ValuesIn(all_targets()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace datacloud::fuzz
