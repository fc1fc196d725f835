// Slot lists and layouts, checked against a byte map of the columns.
#include <algorithm>

#include "common/stripe/stripe_layout.h"
#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace stripe_slots_input {

// Takes numbers off the input: one byte each, 0xff starts a four-byte number.
class Numbers {
 public:
  explicit Numbers(ByteView input) : input_(input) {}
  bool empty() const { return input_.empty(); }
  uint32_t next() {
    if (input_.empty()) return 0;
    uint32_t value = take();
    if (value != 0xff) return value;
    for (int i = 0; i < 4; ++i) value = value << 8 | take();
    return value;
  }

 private:
  uint8_t take() {
    if (input_.empty()) return 0;
    const uint8_t byte = input_[0];
    input_ = input_.subspan(1);
    return byte;
  }
  ByteView input_;
};

// Every accepted slot lies in its column and no byte belongs to two slots.
void check_slots(Numbers numbers) {
  const int k = static_cast<int>(numbers.next() % 5);
  std::vector<uint32_t> columns(k);
  for (auto& length : columns) length = numbers.next();
  std::vector<Slot> slots;
  while (!numbers.empty()) slots.push_back({numbers.next(), numbers.next(), numbers.next()});
  if (!validate_slots(slots, k, columns)) return;
  std::vector<std::vector<bool>> used;
  for (uint32_t length : columns) used.emplace_back(std::min(length, 4096u));
  for (const auto& slot : slots) {
    require(slot.column < columns.size(), "a slot is in a column");
    require(uint64_t{slot.offset} + slot.length <= columns[slot.column],
            "a slot ends in its column");
    const uint64_t end = std::min<uint64_t>(uint64_t{slot.offset} + slot.length, 4096);
    for (uint64_t i = slot.offset; i < end; ++i) {
      require(!used[slot.column][i], "slots do not overlap");
      used[slot.column][i] = true;
    }
  }
}

// Every layout passes the check of what is read back.
void check_layout(Numbers numbers) {
  const int k = static_cast<int>(numbers.next() % 33), packets = static_cast<int>(numbers.next());
  const uint32_t spread_min_bytes = numbers.next();
  std::vector<uint32_t> lengths;
  while (!numbers.empty()) lengths.push_back(numbers.next());
  const auto layout = lay_out_stripe(lengths, k, packets, spread_min_bytes);
  if (!layout) return;
  require(validate_slots(layout.value().slots, k, layout.value().data_lengths).has_value(),
          "a layout is valid");
  for (uint32_t length : layout.value().data_lengths)
    require(length <= layout.value().parity_length, "parity covers every column");
  require(layout.value().parity_length % packets == 0, "parity is whole packets");
}

void run(ByteView input) {
  check_slots(Numbers(input));
  check_layout(Numbers(input));
}

std::vector<Bytes> seeds() {
  return {{3, 100, 100, 50, 0, 0, 50, 0, 50, 50, 1, 0, 100, 2, 0, 50},
          {3, 1, 0, 10, 20, 30, 40, 50, 60, 70},
          {1, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1}};
}

}  // namespace stripe_slots_input

FuzzTarget stripe_slots_target() {
  return {"stripe_slots", stripe_slots_input::run, stripe_slots_input::seeds};
}

}  // namespace datacloud::fuzz
