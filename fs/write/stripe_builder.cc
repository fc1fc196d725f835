// Layout of sealed blocks over columns, and parity without assembling the columns.
#include "fs/write/stripe_builder.h"

#include <algorithm>
#include <array>
#include <utility>

namespace datacloud {
namespace {

using Chunks = std::vector<std::shared_ptr<const SealedChunk>>;

// Columns shorter than the longest count as zero from their end on.
constexpr size_t kSliceBytesMax = 64 << 10;
const std::array<uint8_t, kSliceBytesMax> kZeros{};

// Adds `view` to a column, joining it to the last part where it follows in memory.
void append_view(std::vector<ByteView>& parts, ByteView view) {
  if (!parts.empty() && parts.back().data() + parts.back().size() == view.data()) {
    parts.back() = ByteView(parts.back().data(), parts.back().size() + view.size());
  } else {
    parts.push_back(view);
  }
}

// Fills the data columns of `stripe` by its layout.
result<void> gather_columns(const Chunks& chunks, int k, BuiltStripe& stripe) {
  std::vector<std::shared_ptr<Chunks>> owners;
  for (int c = 0; c < k; ++c) owners.push_back(std::make_shared<Chunks>());
  std::vector<uint32_t> used(static_cast<size_t>(k), 0);
  size_t slot_index = 0;
  for (const auto& chunk : chunks) {
    size_t offset = 0;
    for (const uint32_t length : chunk->lengths) {
      const Slot& slot = stripe.layout.slots[slot_index++];
      if (slot.column >= used.size() || slot.offset != used[slot.column] || slot.length != length) {
        return failure(Errc::invalid, "the layout of a stripe is not made of its blocks in order");
      }
      used[slot.column] += length;
      append_view(stripe.columns[slot.column].parts, ByteView(&chunk->bytes[offset], length));
      auto& owned = *owners[slot.column];
      if (owned.empty() || owned.back() != chunk) owned.push_back(chunk);
      offset += length;
    }
  }
  for (size_t c = 0; c < owners.size(); ++c) stripe.columns[c].owner = std::move(owners[c]);
  return success();
}

// Walks a column part by part; endless zeros behind its end.
class ColumnCursor {
 public:
  explicit ColumnCursor(const std::vector<ByteView>& parts)
      : next_(parts.begin()), end_(parts.end()) {
    advance(0);
  }
  bool ended() const { return view_.empty(); }
  size_t contiguous() const { return view_.empty() ? kSliceBytesMax : view_.size(); }
  ByteView first(size_t bytes) const {
    return view_.empty() ? ByteView(kZeros.data(), bytes) : view_.first(bytes);
  }
  void advance(size_t bytes) {
    if (!view_.empty()) view_ = view_.subspan(bytes);
    if (view_.empty() && next_ != end_) view_ = *next_++;
  }
  void skip(size_t bytes) {
    while (bytes > 0 && !view_.empty()) {
      const size_t step = std::min(bytes, view_.size());
      advance(step);
      bytes -= step;
    }
  }

 private:
  std::vector<ByteView>::const_iterator next_, end_;
  ByteView view_;
};

void add_parity_memory(const ErasureCode& code, BuiltStripe& stripe) {
  const size_t length = stripe.layout.parity_length;
  for (int p = 0; p < code.m(); ++p) {
    auto memory = std::make_shared_for_overwrite<uint8_t[]>(length);
    stripe.parity.emplace_back(memory.get(), length);
    Payload& column = stripe.columns[static_cast<size_t>(code.k() + p)];
    column.parts.emplace_back(memory.get(), length);
    column.owner = std::move(memory);
  }
}

}  // namespace

// Slice by slice through all packets of all columns at once.
void encode_parity(const ErasureCode& code, BuiltStripe& stripe, const SeenBytes& seen) {
  if (stripe.parity.empty()) return;
  const size_t length = stripe.layout.parity_length;
  const size_t packets = static_cast<size_t>(code.packets()), packet = length / packets;
  std::vector<uint8_t*> parity;  // packets of a column side by side
  for (const auto& column : std::exchange(stripe.parity, {})) {
    for (size_t i = 0; i < packets; ++i) parity.push_back(column.data() + i * packet);
  }
  std::vector<ColumnCursor> cursors;
  for (size_t c = 0; c < static_cast<size_t>(code.k()); ++c) {
    for (size_t i = 0; i < packets; ++i) {
      cursors.emplace_back(stripe.columns[c].parts);
      cursors.back().skip(i * packet);
    }
  }
  std::vector<ByteView> data(cursors.size());
  std::vector<MutableByteView> out(parity.size());
  for (size_t done = 0; done < packet;) {
    size_t slice = std::min(kSliceBytesMax, packet - done);
    for (const auto& cursor : cursors) slice = std::min(slice, cursor.contiguous());
    for (size_t i = 0; i < cursors.size(); ++i) data[i] = cursors[i].first(slice);
    for (size_t i = 0; i < parity.size(); ++i) out[i] = MutableByteView(parity[i] + done, slice);
    code.encode_packets(data, out);
    if (seen && packets == 1) {
      for (size_t c = 0; c < data.size(); ++c) {
        if (!cursors[c].ended()) seen(c, data[c]);
      }
      for (size_t p = 0; p < out.size(); ++p) seen(data.size() + p, out[p]);
    }
    for (auto& cursor : cursors) cursor.advance(slice);
    done += slice;
  }
}

result<BuiltStripe> lay_out_columns(const ErasureCode& code, const Chunks& chunks,
                                    uint32_t spread_min_bytes) {
  std::vector<uint32_t> lengths;
  for (const auto& chunk : chunks) {
    lengths.insert(lengths.end(), chunk->lengths.begin(), chunk->lengths.end());
  }
  BuiltStripe stripe;
  TRY(stripe.layout, lay_out_stripe(lengths, code.k(), code.packets(), spread_min_bytes));
  stripe.columns.resize(static_cast<size_t>(code.n()));
  TRY(gather_columns(chunks, code.k(), stripe));
  add_parity_memory(code, stripe);
  return stripe;
}

}  // namespace datacloud
