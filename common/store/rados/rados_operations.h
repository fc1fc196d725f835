// The compound operations on one RADOS object that calls of the seam are made of.
#pragma once

#include <functional>
#include <vector>

#include "common/store/rados/rados_pool.h"

namespace datacloud {

inline constexpr size_t kRadosRangesMax = 16384;  // of one read

// Size, attributes (if wanted) and ranges of one instant. `done` gets a negative errno, or 0 and a
// reply, which is corrupt when the object is not one of ours.
void rados_read(RadosPool&, const std::string& name, std::vector<ByteRange> ranges,
                bool want_attributes, std::function<void(int rc, result<ReadReply>)> done);

// Creates an object whole, exclusively.
void rados_create(RadosPool&, const std::string& name, const Payload&, const Attributes&,
                  RadosPool::Done);

}  // namespace datacloud
