// Moves blocks that are inline (their sealed bytes are records `V`) into slots of new stripes, as
// they are: no data key is needed. For those that no mount moves any more, because the one that put
// them there has died or lost its session. Patches of such a block stay, beside its slot: only a
// mount can open them (docs/protocol.md, "Bytes in the records").
//
// Runs as a job on the background threads and blocks. The switch is one transaction that adds the
// stripe and moves exactly the blocks that are still inline under the version that was read. A
// crash before leaves the blocks where they are, and objects that no record names.
//
// Memory: the bytes of one slice (kInlineSliceBytes, or one block more), and one new stripe.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "daemon/fold/new_stripe.h"
#include "daemon/jobs/background_context.h"

namespace datacloud {

inline constexpr uint64_t kInlineSliceBytes = 8u << 20;

// Inode and block: where a slice begins.
using InlinePlace = std::pair<InodeId, uint64_t>;

struct InlineMoveOutcome {
  uint64_t blocks_moved = 0, blocks_changed = 0;  // changed: written or removed meanwhile
  uint64_t stripes_made = 0, bytes_written = 0;
  std::string obstacle;             // why some were left alone
  std::optional<InlinePlace> next;  // none: there are no more
};

// `may_move`: on the loop; asked once for each file. unavailable when the daemon is stopping.
result<InlineMoveOutcome> move_inline_blocks(BackgroundContext&, BackgroundIds&, InlinePlace from,
                                             const std::function<bool(InodeId)>& may_move);

}  // namespace datacloud
