// One request and its answer over a stream, for who has no session: a joining machine.
#pragma once

#include "common/base/clock.h"
#include "common/net/byte_stream.h"
#include "common/rpc/rpc.h"

namespace datacloud {

// Blocks. The answer's error is returned as one; unavailable when none comes in time.
result<pb::Reply> exchange(ByteStream&, const pb::Request&, Duration patience);

}  // namespace datacloud
