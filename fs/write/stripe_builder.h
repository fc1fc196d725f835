// From sealed blocks to the bytes of every column. Pure: no I/O, no ids.
//
// Data columns are lists of views into the memory the blocks were sealed into, so that no byte is
// copied on its way to a store; parity is computed slice by slice through these lists.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "common/codes/erasure_code.h"
#include "common/store/object_store.h"
#include "common/stripe/stripe_layout.h"

namespace datacloud {

// Sealed blocks back to back.
struct SealedChunk {
  Bytes bytes;
  std::vector<uint32_t> lengths;  // of each block; their sum is bytes.size()
};

struct BuiltStripe {
  StripeLayout layout;
  std::vector<Payload> columns;         // n entries; a data column without slots has no bytes
  std::vector<MutableByteView> parity;  // m entries until encode_parity(), then none
};

// Lays the blocks of the chunks, in order, out over the columns of `code`; those of parity have
// memory, and no content yet. Each column owns the chunks it uses, so that a column outlives the
// others alone. invalid: no blocks or too many.
result<BuiltStripe> lay_out_columns(const ErasureCode& code,
                                    const std::vector<std::shared_ptr<const SealedChunk>>& chunks,
                                    uint32_t spread_min_bytes);

// Computes the parity, once. With codes of one packet `seen` is given all bytes of every column on
// the way, parity included, each column's in order, while they are in a near cache.
using SeenBytes = std::function<void(size_t column, ByteView)>;
void encode_parity(const ErasureCode& code, BuiltStripe&, const SeenBytes& seen = nullptr);

}  // namespace datacloud
