// What a store may offer besides ObjectStore: to read into memory that the caller has, without a
// copy in between. The server of a site reads into a window that it shares with a mount that way.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/store/object_store.h"

namespace datacloud {

struct ReadIntoReply {
  std::vector<uint64_t> sizes;  // bytes of each range; short at the object's end
  Attributes attributes;        // filled when asked for
  uint64_t object_size = 0;
};

class ReadsInto {
 public:
  virtual ~ReadsInto() = default;
  // As ObjectStore::read, but the bytes of ranges[i] go to the beginning of spaces[i], which has at
  // least ranges[i].length bytes; what is behind them there is undefined afterwards, and all of it
  // after a failure. `owner` keeps the spaces alive.
  virtual void read_into(const std::string& name, std::vector<ByteRange> ranges,
                         std::vector<MutableByteView> spaces, std::shared_ptr<const void> owner,
                         bool want_attributes, OpOptions, Callback<ReadIntoReply>) = 0;
};

}  // namespace datacloud
