// Places sealed blocks in columns and checks slot lists. Pure; see stripe_layout.h.
#include "common/stripe/stripe_layout.h"

#include <algorithm>
#include <limits>
#include <string>

namespace datacloud {
namespace {

using PrefixSums = std::vector<uint64_t>;  // sums[i]: bytes of the first i blocks

// Index after the last block of a column that starts at block `first` and takes `target` bytes.
size_t column_end(const PrefixSums& sums, size_t first, uint64_t target) {
  return std::upper_bound(sums.begin() + first, sums.end(), sums[first] + target) - sums.begin() -
         1;
}

bool fits(const PrefixSums& sums, int k, uint64_t target) {
  size_t next = 0;
  for (int column = 0; column < k && next + 1 < sums.size(); ++column)
    next = column_end(sums, next, target);
  return next + 1 == sums.size();
}

// The least column length for which filling column after column takes at most k columns.
uint64_t shortest_target(const PrefixSums& sums, int k, uint64_t longest_block) {
  uint64_t low = std::max(longest_block, (sums.back() + k - 1) / k), high = sums.back();
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (fits(sums, k, middle))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

std::string slot_name(size_t i) { return "slot " + std::to_string(i); }

}  // namespace

result<StripeLayout> lay_out_stripe(const std::vector<uint32_t>& sealed_lengths, int k, int packets,
                                    uint32_t spread_min_bytes) {
  const size_t count = sealed_lengths.size();
  if (k < 1 || packets < 1)
    return failure(Errc::invalid, "a stripe needs at least one data column and one packet");
  if (count == 0 || count > kStripeSlotsMax)
    return failure(Errc::invalid, "a stripe takes 1 to " + std::to_string(kStripeSlotsMax) +
                                      " blocks, not " + std::to_string(count));
  PrefixSums sums(count + 1);
  uint32_t longest_block = 0;
  for (size_t i = 0; i < count; ++i) {
    if (sealed_lengths[i] == 0)
      return failure(Errc::invalid, "block " + std::to_string(i) + " of a stripe has no bytes");
    sums[i + 1] = sums[i] + sealed_lengths[i];
    longest_block = std::max(longest_block, sealed_lengths[i]);
  }
  const uint64_t target =
      sums.back() <= spread_min_bytes ? sums.back() : shortest_target(sums, k, longest_block);
  if (target > std::numeric_limits<uint32_t>::max() - packets)
    return failure(Errc::invalid, "a column of " + std::to_string(target) + " bytes is too long");

  StripeLayout layout;
  layout.slots.reserve(count);
  layout.data_lengths.assign(k, 0);
  size_t next = 0;
  for (int column = 0; column < k && next < count; ++column) {
    const size_t first = next;
    next = column_end(sums, first, target);
    for (size_t i = first; i < next; ++i)
      layout.slots.push_back({static_cast<uint32_t>(column),
                              static_cast<uint32_t>(sums[i] - sums[first]), sealed_lengths[i]});
    layout.data_lengths[column] = static_cast<uint32_t>(sums[next] - sums[first]);
  }
  const uint64_t longest =
      *std::max_element(layout.data_lengths.begin(), layout.data_lengths.end());
  const auto rounded_up = [longest](uint64_t unit) { return (longest + unit - 1) / unit * unit; };
  const uint64_t whole_packets = rounded_up(static_cast<uint64_t>(packets));
  const uint64_t blocks = static_cast<uint64_t>(packets) * kPacketBlockBytes;
  const uint64_t whole_blocks = rounded_up(blocks);
  const bool aligned = packets > 1 && longest >= kAlignedBlocksMin * blocks &&
                       whole_blocks <= std::numeric_limits<uint32_t>::max();
  layout.parity_length = static_cast<uint32_t>(aligned ? whole_blocks : whole_packets);
  return layout;
}

result<void> validate_slots(const std::vector<Slot>& slots, int k,
                            const std::vector<uint32_t>& column_lengths) {
  if (k < 1 || column_lengths.size() != static_cast<size_t>(k))
    return failure(Errc::invalid, "a stripe of " + std::to_string(k) + " data columns has " +
                                      std::to_string(column_lengths.size()) + " column lengths");
  if (slots.size() > kStripeSlotsMax)
    return failure(Errc::invalid, "a stripe of " + std::to_string(slots.size()) + " slots; " +
                                      std::to_string(kStripeSlotsMax) + " are the most");
  for (size_t i = 0; i < slots.size(); ++i) {
    const Slot& slot = slots[i];
    if (slot.column >= column_lengths.size())
      return failure(Errc::invalid, slot_name(i) + " is in column " + std::to_string(slot.column) +
                                        " of " + std::to_string(k));
    if (slot.length == 0) return failure(Errc::invalid, slot_name(i) + " has no bytes");
    if (uint64_t{slot.offset} + slot.length > column_lengths[slot.column])
      return failure(Errc::invalid, slot_name(i) + " ends behind its column of " +
                                        std::to_string(column_lengths[slot.column]) + " bytes");
  }
  // In order of position each slot must start at or after the end of the one before.
  std::vector<uint32_t> order(slots.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(slots[a].column, slots[a].offset) <
           std::pair(slots[b].column, slots[b].offset);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const Slot &before = slots[order[i - 1]], &slot = slots[order[i]];
    if (before.column == slot.column && before.offset + before.length > slot.offset)
      return failure(Errc::invalid, slot_name(order[i - 1]) + " and " + slot_name(order[i]) +
                                        " overlap in column " + std::to_string(slot.column));
  }
  return success();
}

}  // namespace datacloud
