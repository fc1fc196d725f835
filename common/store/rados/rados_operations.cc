// Compound operations (rados_operations.h).
//
// Invariants: an object is created whole, with its attributes, in one operation or not at all; a
// range never reaches RADOS with length 0, which means "all" there.
#include "common/store/rados/rados_operations.h"

#include <algorithm>

#include "common/store/rados/rados_attributes.h"

namespace datacloud {
namespace {

// What a read operation writes to; lives until it is answered.
struct ReadState {
  std::vector<ByteRange> asked;  // clamped; length 0: not sent
  std::vector<librados::bufferlist> ranges;
  std::map<std::string, librados::bufferlist> xattrs;
  uint64_t size = 0;
};

librados::bufferlist join(const Payload& payload) {
  // Copied: librados may hold on to it after a call was given up.
  librados::bufferlist data;
  for (const auto& part : payload.parts) {
    if (part.empty()) continue;
    data.append(reinterpret_cast<const char*>(part.data()), static_cast<unsigned>(part.size()));
  }
  return data;
}

result<ReadReply> reply_of(ReadState& state) {
  ReadReply reply;
  reply.object_size = state.size;
  if (state.size > kObjectBytesMax) return failure(Errc::corrupt, "larger than 64 MiB");
  uint64_t total = 0;
  for (size_t i = 0; i < state.asked.size(); ++i) {
    const uint64_t length = state.ranges[i].length();
    total += length;
    if (length > state.asked[i].length || total > kObjectBytesMax) {
      return failure(Errc::corrupt, "more bytes came than were asked for, or than 64 MiB");
    }
    reply.ranges.push_back(bytes_of(state.ranges[i]));
  }
  TRY(reply.attributes, decode_rados_attributes(state.xattrs));
  return reply;
}

}  // namespace

void rados_read(RadosPool& pool, const std::string& name, std::vector<ByteRange> ranges,
                bool want_attributes, std::function<void(int, result<ReadReply>)> done) {
  auto state = std::make_shared<ReadState>();
  state->asked = std::move(ranges);
  state->ranges.resize(state->asked.size());
  librados::ObjectReadOperation op;
  op.stat2(&state->size, nullptr, nullptr);
  if (want_attributes) op.getxattrs(&state->xattrs, nullptr);
  for (size_t i = 0; i < state->asked.size(); ++i) {
    auto& [offset, length] = state->asked[i];
    length = offset < kObjectBytesMax ? std::min(length, kObjectBytesMax - offset) : 0;
    if (length > 0) op.read(offset, length, &state->ranges[i], nullptr);
  }
  pool.read(name, op, [state, done = std::move(done)](int rc) {
    rc < 0 ? done(rc, ReadReply()) : done(0, reply_of(*state));
  });
}

void rados_create(RadosPool& pool, const std::string& name, const Payload& data,
                  const Attributes& attributes, RadosPool::Done done) {
  constexpr uint32_t kHint = librados::ALLOC_HINT_FLAG_IMMUTABLE |
                             librados::ALLOC_HINT_FLAG_LONGLIVED |
                             librados::ALLOC_HINT_FLAG_INCOMPRESSIBLE;
  librados::ObjectWriteOperation op;
  op.create(true);
  op.set_alloc_hint2(data.size(), data.size(), kHint);
  op.write_full(join(data));
  for (const auto& [key, value] : attributes) {
    librados::bufferlist list;
    list.append(value);
    op.setxattr(rados_xattr(key).c_str(), list);
  }
  pool.write(name, op, std::move(done));
}

}  // namespace datacloud
